"""What files lose class by class, before one is chosen where that is bounded, and of the one that was."""

from collections.abc import Callable, Sequence

from autocompress.candidate.request import ModelFile
from autocompress.errors import CandidateFailed, UsageError
from autocompress.evaluation import Evaluation
from autocompress.explore.clock.durations import Durations
from autocompress.explore.finishing.measuring import Measuring
from autocompress.explore.history.facts import ComparedByClass, ComparedByExample
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.schedule.time_budget import TimeBudget
from autocompress.explore.standings.judgement import Judgement, fastest_first, most_accurate_first
from autocompress.explore.standings.standings import Standings
from autocompress.explore.view import View

RIVALS = 4  # files behind the best that are compared too, which may tie with it
RUNNING_SHARE = 0.3  # of the time that there is for examples, to run some of them again by both files
COMPARED_LIMIT_S = 120.0  # more than it should take to compare one


class ClassComparison:
    """Compares one file after another with the reference; a file that was is not compared again."""

    def __init__(
        self,
        pipeline: Pipeline,
        standings: Standings,
        time: TimeBudget,
        history: History,
        durations: Durations,
        view: View,
        measuring: Measuring,
    ) -> None:
        self._pipeline = pipeline
        self._standings = standings
        self._time = time
        self._history = history
        self._durations = durations
        self._view = view
        self._measuring = measuring

    async def compare_the_best(self, judged: Callable[[], Sequence[Judgement]]) -> None:
        """Where a class may not lose too much: file by file, until the best of what may be recommended is compared, and
        a few behind it that may be as good; where none of those that were timed for it keeps its classes, the next.

        judged: the files that can be chosen from, as they stand.
        """
        if self._standings.budget.max_class_drop is None:
            return
        order = most_accurate_first if self._standings.budget.bounded else fastest_first
        tried, timed_s, rivals = set[str](), -1.0, 0
        while True:
            possible = order([j for j in judged() if j.recommendable_but_for_classes and j.evaluation.recipe.changes])
            kept = [j for j in possible if j.by_class is not None]
            left = [j for j in possible if j.by_class is None and j.evaluation.id not in tried]
            if not (kept or left) and self._pipeline.timed.spent_s > timed_s:
                timed_s = self._pipeline.timed.spent_s
                await self._measuring.judge_finalists()
                continue
            is_rival = bool(kept and left) and possible.index(kept[0]) < possible.index(left[0])
            if not left or (is_rival and rivals == RIVALS):
                return
            if not self._time.can_test(left[0].evaluation):
                self._view.note("there was no time to compare all files class by class")
                return
            rivals += is_rival
            tried.add(left[0].evaluation.id)
            await self.compare(left[0].evaluation)

    async def compare(self, evaluation: Evaluation) -> None:
        """One file, where it was scored on all examples and its outputs are kept."""
        known = self._standings.measured.by_class
        if not evaluation.recipe.changes or not evaluation.score.whole or evaluation.id in known:
            return
        reference, limit_s = self._standings.reference, self._durations.within(COMPARED_LIMIT_S)
        try:
            found = await self._pipeline.operations.by_class(reference.outputs, evaluation.outputs, limit_s=limit_s)
        except CandidateFailed:
            return
        except UsageError as error:
            self._view.note(f"classes are not compared: {error}")
            return
        if found is not None:
            self._history.enter(ComparedByClass({evaluation.id: found}))

    async def compare_examples(self, evaluation: Evaluation) -> None:
        """The examples that one file does worse on, where it was scored on all of them and its outputs are kept."""
        known, reference = self._standings.measured.by_example, self._standings.reference
        if not evaluation.recipe.changes or not evaluation.score.whole or evaluation.id in known:
            return
        if self._standings.measured.scored_there(evaluation) or not self._time.can_compare_examples():
            return
        file = ModelFile(evaluation.recipe, evaluation.artifact, evaluation.digest, evaluation.graph)
        outputs, limit_s = (reference.outputs, evaluation.outputs), self._durations.within(COMPARED_LIMIT_S)
        seconds, call_ms = self._time.examples_s(), reference.latency.p50 + evaluation.latency.p50
        again = int(RUNNING_SHARE * seconds * 1e3 / (call_ms / self._pipeline.profile.batch))
        try:
            found = await self._pipeline.operations.changed_examples(
                file, *outputs, seconds=seconds, again=again, limit_s=limit_s
            )
        except CandidateFailed:
            return
        if found is not None:
            self._history.enter(ComparedByExample({evaluation.id: found}))

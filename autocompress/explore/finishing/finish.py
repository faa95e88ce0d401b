"""The end of a search: finalists train in full, the front is measured again beside the reference, one model is
chosen, tested once.
"""

import math
from collections.abc import Callable, Sequence

from autocompress.candidate.request import ModelFile
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.concurrency import all_done
from autocompress.explore.finishing.measuring import Measuring
from autocompress.explore.finishing.recommendation import nearest, recommendable
from autocompress.explore.history.facts import Nearest, Recommended, ScoredOnTest
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.schedule import rungs
from autocompress.explore.schedule.time_budget import CONTENDERS, FINALISTS, TimeBudget
from autocompress.explore.space.structure_model import MARGIN
from autocompress.explore.standings.front import prefer_faster
from autocompress.explore.standings.objective import point
from autocompress.explore.standings.standings import Standings
from autocompress.explore.training.training import Training
from autocompress.explore.view import View

TRIAL_SHARE = 0.15  # of the time that is left, for a contender to catch up with the other
LEAST_MORE = 0.3  # of what a finalist has trained: to train on for less is not worth warming up again
MOST_LAST_LENGTHS = 4  # a finalist trains at most this many times the last rung's length, if time is left
TEST_LIMIT_S = 120.0  # more than it should take to score files on the test split
TEST_SLACK = 4  # times what it should take


class Finish:
    """The end of one search. check_interrupted: raises Interrupted when it is to stop."""

    def __init__(
        self,
        pipeline: Pipeline,
        standings: Standings,
        training: Training,
        time: TimeBudget,
        history: History,
        clock: Clock,
        durations: Durations,
        view: View,
        check_interrupted: Callable[[], None],
    ) -> None:
        self._operations = pipeline.operations
        self._standings = standings
        self._training = training
        self._time = time
        self._history = history
        self._clock = clock
        self._durations = durations
        self._view = view
        self._check_interrupted = check_interrupted
        self._measuring = Measuring(pipeline, standings, time, history, clock, durations, check_interrupted)

    async def run(self) -> None:
        """Train the finalists as far as the time allows, then conclude.

        Under a budget only one model is recommended: when two contenders have been trained equally long, the better one
        has all the time that is left. Without, the finalists share it.
        """
        if self._standings.steering.bounded:
            await self._measuring.confirm_finalists()
            contenders = self._standings.finalists(CONTENDERS, MARGIN)
            level = min(max(1, *(family.rung for family in contenders)), rungs.LAST) if len(contenders) > 1 else 0
            behind = [family for family in contenders if family.rung < level]
            seconds = TRIAL_SHARE * (self._clock.left() - self._time.closing_s())
            await self._train_on(behind, self._time.lengths[level].examples, seconds * len(behind))
        count = 1 if self._standings.steering.bounded else FINALISTS
        finalists = self._standings.finalists(count, MARGIN)
        left = self._clock.left() - self._time.closing_s()
        await self._train_on(finalists, MOST_LAST_LENGTHS * self._time.lengths[-1].examples, left)
        await self.conclude()

    async def _train_on(self, families: Sequence[Family], most: int, seconds: float) -> None:
        """Train finalists on, each up to ``most`` examples more, or until all have had their share of the seconds, with
        what it takes to make and measure their files.
        """
        concurrency = max(1, min(self._operations.concurrency, len(families)))
        began, waiting = self._clock.elapsed(), list(families)

        async def work() -> None:
            while waiting:
                share = (began + seconds - self._clock.elapsed()) * concurrency / max(len(waiting), concurrency)
                family = waiting.pop(0)
                training = share - self._durations.overhead_s()
                if training < LEAST_MORE * family.train_s:
                    continue  # too little to be worth a re-warming
                self._check_interrupted()
                total = rungs.Length(family.train_s + training, family.examples + most)
                await self._training.advance(family, total)
                self._view.status(self._standings, self._clock.left())

        with self._operations.sharing(concurrency):
            await all_done(work() for _ in range(concurrency))

    async def conclude(self) -> None:
        """Measure the front again, choose, and open the test split for what is on it."""
        with self._operations.sharing(1):
            await self._measuring.measure_front()
            chosen = self._choose(await self._recommend())
            await self._test_once(chosen)
        self._training.save_progress()

    def conclude_as_it_stands(self) -> None:
        """Choose of what there is, measuring nothing more: on the way out of a search that does not come to its end."""
        self._choose(self._standings.best_feasible())

    def _choose(self, recommended: Evaluation | None) -> Evaluation:
        """recommended: None when nothing is feasible."""
        chosen = recommended or nearest(self._standings)
        self._history.enter(Recommended(chosen.id) if recommended else Nearest(chosen.id))
        return chosen

    async def _recommend(self) -> Evaluation | None:
        """The most accurate feasible file, or a faster one as good on the same examples; without a budget the fastest
        within ``max_drop``. None when nothing is feasible.
        """
        ordered = recommendable(self._standings)
        if not ordered or not self._standings.budget.bounded:
            return ordered[0] if ordered else None
        try:
            differences = await self._operations.differences(
                ordered[0].outputs, [e.outputs for e in ordered], limit_s=self._durations.within(TEST_LIMIT_S)
            )
        except CandidateFailed:  # without the stored outputs nothing can be shown to be as good
            return ordered[0]
        return ordered[prefer_faster([point(e) for e in ordered], differences)]

    async def _test_once(self, chosen: Evaluation) -> None:
        """Score the front, what was chosen and the reference on the test split; a file once tested is not tested
        again.
        """
        if not self._standings.opening.prepared.test_examples:
            return
        standings, final = self._standings, self._standings.final
        wanted = {"reference", chosen.id, *(e.id for e in standings.front() if e.id in final)}
        files = {e.id: e for e in self._standings.candidates() if e.id in wanted}
        new = [e for e in files.values() if e.digest not in self._standings.tests]
        if not new:
            return
        try:
            asked = [ModelFile(e.recipe, e.artifact, e.digest) for e in new]
            scores = await self._operations.test(asked, limit_s=TEST_LIMIT_S + TEST_SLACK * self._time.tested_s())
        except CandidateFailed as error:
            self._view.note(f"the test split could not be scored: {error.reason}")
            return
        finite = {e.digest: score for e, score in zip(new, scores, strict=True) if math.isfinite(score)}
        if len(finite) < len(new):
            self._view.note(
                f"the metric is not a finite number on the test split for {len(new) - len(finite)} of {len(new)} "
                "files: they have no test score"
            )
        self._history.enter(ScoredOnTest(finite))

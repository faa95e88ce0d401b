"""The end of a search: finalists train in full, what may be recommended is judged by new timing sessions, one model
is chosen, tested once.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

from autocompress.candidate.request import ModelFile
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.concurrency import all_done
from autocompress.explore.finishing.ablations import Ablations
from autocompress.explore.finishing.choice import among, nearest, recommended
from autocompress.explore.finishing.class_comparison import ClassComparison
from autocompress.explore.finishing.measuring import Measuring
from autocompress.explore.history.facts import (
    Chosen,
    Compared,
    ComparedWith,
    Nearest,
    Profiled,
    RanOnDevice,
    Recommended,
    ScoredOnTest,
)
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.pipeline import PROFILE_LIMIT_S, Pipeline
from autocompress.explore.schedule import rungs
from autocompress.explore.schedule.time_budget import (
    CLOSING_S,
    CONTENDERS,
    FINALISTS,
    JUDGED,
    MEASURED_AGAIN,
    TimeBudget,
    is_worth_more,
)
from autocompress.explore.standings.judgement import Judgement, fastest_first, most_accurate_first
from autocompress.explore.standings.rivals import rivals
from autocompress.explore.standings.standings import Standings
from autocompress.explore.training.training import Training
from autocompress.explore.view import View
from autocompress.measure import DeviceLost
from autocompress.storage.store import Store

TRIAL_SHARE = 0.15  # of the time that is left, for a contender to catch up with the other
TEST_LIMIT_S = 120.0  # more than it should take to score files on the test split
MOST_COMPARED = 30  # files that may be recommended, compared with the reference example by example
TEST_SLACK = 4  # times what it should take
PROFILED_CALLS = 10  # of a file that takes long
WRITING_S = 1.5  # of what closing a search takes, to write the front and the report
DEVICE_LIMIT_S = 300.0  # to run a file there, beside what scoring it takes


class Finish:
    """The end of one search. check_interrupted: raises Interrupted when it is to stop. ablations: that explain what is
    best; None where nobody asked for them.
    """

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
        ablations: Ablations | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._operations = pipeline.operations
        self._standings = standings
        self._training = training
        self._time = time
        self._history = history
        self._clock = clock
        self._durations = durations
        self._view = view
        self._check_interrupted = check_interrupted
        self._ablations = ablations
        self._measuring = Measuring(pipeline, standings, time, history, clock, durations, check_interrupted)
        self._classes = ClassComparison(pipeline, standings, time, history, durations, view, self._measuring)

    async def run(self) -> None:
        """Train the finalists as far as the time allows, then conclude.

        Under a budget only one model is recommended: when two contenders have been trained equally long, the better one
        has all the time that is left. Without, the finalists share it.
        """
        if self._standings.steering.bounded:
            await self._measuring.confirm_finalists()
            contenders = self._standings.finalists(CONTENDERS)
            reached = [rungs.TRAINED, *(family.rung for family in contenders)]
            level = min(max(reached), rungs.LAST) if len(contenders) > 1 else rungs.UNTRAINED
            behind = [family for family in contenders if family.rung < level]
            seconds = TRIAL_SHARE * (self._clock.left() - self._time.closing_s())
            await self._train_on(behind, self._time.lengths[level].examples, seconds * len(behind))
        count = 1 if self._standings.steering.bounded else FINALISTS
        finalists = self._standings.finalists(count)
        self._history.enter(Chosen(tuple(family.id for family in finalists)))
        if self._ablations is not None:
            self._ablations.keep_time(self._standings.standing(finalists[0]).best if finalists else None)
        left = self._clock.left() - self._time.closing_s()
        training = asyncio.ensure_future(self._train_on(finalists, self._time.full_examples, left))
        await all_done([training, self._measuring.beside(training, finalists, left)])
        if self._ablations is not None:
            with self._operations.sharing(1):
                best = await self._recommended() or nearest(self._standings.judgements())
                await self._ablations.run(best.evaluation, self._check_interrupted)
        await self._conclude()

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
                if not is_worth_more(family.train_s, training):
                    continue
                self._check_interrupted()
                total = rungs.Length(family.train_s + training, family.examples + most)
                await self._training.advance(family, total)
                self._view.status(self._standings, self._clock.left())

        with self._operations.sharing(concurrency):
            await all_done(work() for _ in range(concurrency))

    async def conclude(self) -> None:
        """The end of a search in which nothing more is trained."""
        self._history.enter(Chosen(()))
        await self._conclude()

    async def _conclude(self) -> None:
        """Judge what may be recommended, choose, and open the test split for what is on the front."""
        with self._operations.sharing(1):
            await self._compare_with_reference()
            testing = asyncio.ensure_future(self._test_reference())
            await all_done([testing, self._time_what_may_be_chosen()])
            found = await self._hold_on_the_device(await self._recommended_as_judged())
            chosen = self._choose(found)
            if self._time.can_test(chosen):
                await self._classes.compare(chosen)
            await all_done([self._test_once(chosen, testing.result()), self._profile(chosen)])
            await self._run_front_on_device()
            await self._classes.compare_examples(chosen)
            await self._compare_with_each_other(chosen)
        self._training.save_progress()

    async def _time_what_may_be_chosen(self) -> None:
        await self._measuring.judge_finalists()
        await self._measuring.time_front()

    def conclude_as_it_stands(self) -> None:
        """Choose of what there is, measuring nothing more: on the way out of a search that does not come to its end."""
        self._choose(recommended(self._judged(), {}, bounded=self._standings.budget.bounded))

    def _choose(self, found: Judgement | None) -> Evaluation:
        """found: None when nothing can be recommended."""
        chosen = (found or nearest(self._standings.judgements())).evaluation
        self._history.enter(Recommended(chosen.id) if found else Nearest(chosen.id))
        return chosen

    async def _recommended(self) -> Judgement | None:
        """The file to recommend; None when there is none."""
        await self._classes.compare_the_best(self._judged)
        judged, bounded = self._judged(), self._standings.budget.bounded
        best = recommended(judged, {}, bounded=bounded)
        if best is None or not bounded:
            return best
        others = [j.evaluation for j in judged if j.recommendable]
        return recommended(judged, await self._differences(best.evaluation, others), bounded=bounded)

    async def _recommended_as_judged(self) -> Judgement | None:
        """The file to recommend, timed as often as finalists are; a few that are not are, one after another."""
        found = await self._recommended()
        for _ in range(JUDGED):
            if found is None or not await self._measuring.judge(found.evaluation):
                break
            found = await self._recommended()
        return found

    async def _hold_on_the_device(self, found: Judgement | None) -> Judgement | None:
        """What is to be recommended is run where it will be; one whose score falls there is judged by that, and another
        may be better then.
        """
        while found is not None and await self._run_on_device(found.evaluation):
            found = await self._recommended()
            if found is None or not self._standings.is_final(found.evaluation):  # others may do
                await self._measuring.judge_finalists()
                found = await self._recommended_as_judged()
        return found

    async def _run_front_on_device(self) -> None:
        """The rest of the front too, while there is time."""
        for e in self._standings.reported_front()[:MEASURED_AGAIN]:
            await self._run_on_device(e)

    async def _run_on_device(self, evaluation: Evaluation) -> bool:
        """Whether a file was run there now: not where the target is this machine, not twice, and not without time."""
        standings, profile = self._standings, self._pipeline.profile
        known = evaluation.id in standings.measured.on_device or evaluation.id == standings.opening.reference.id
        if known or not self._time.can_run_on_device():
            return False
        file = ModelFile(evaluation.recipe, evaluation.artifact, evaluation.digest, evaluation.graph)
        calls_s = standings.opening.prepared.val_examples / profile.batch * evaluation.latency.p50 / 1e3
        limit_s = self._durations.within(DEVICE_LIMIT_S + TEST_SLACK * (calls_s + self._time.tested_s()))
        try:
            found = await self._operations.run_on_device(file, standings.reference.outputs, limit_s=limit_s)
        except (CandidateFailed, DeviceLost) as error:
            self._view.note(f"{evaluation.recipe.techniques()} could not be run on the device: {error}")
            return False
        if found.failed:
            self._view.note(f"{evaluation.recipe.techniques()} cannot be used on the device: {found.failed}")
        self._history.enter(RanOnDevice({evaluation.id: found}))
        return True

    async def _profile(self, chosen: Evaluation) -> None:
        """Where the time of what was chosen goes, and that of the reference, if there is time to look."""
        wanted = {e.digest: e for e in (self._standings.reference, chosen)}
        known = self._standings.measured.operators
        calls = PROFILED_CALLS * len(self._pipeline.profile.sizes)
        if self._clock.left() < CLOSING_S + calls * sum(e.latency.p50 for e in wanted.values()) / 1e3:
            return
        try:
            found = {
                digest: await self._pipeline.operators(e.artifact, self._durations.within(PROFILE_LIMIT_S))
                for digest, e in wanted.items()
                if digest not in known
            }
        except (CandidateFailed, DeviceLost):
            return
        if found:
            self._history.enter(Profiled(found))

    def _judged(self) -> Sequence[Judgement]:
        """What is chosen from."""
        everything = self._standings.judgements()
        return among(everything, [j for j in everything if self._standings.is_final(j.evaluation)])

    async def _compare_with_reference(self) -> None:
        """The loss of score of what is on the front and of what may be recommended, on the same examples."""
        standings = self._standings
        order = most_accurate_first if standings.budget.bounded else fastest_first
        possible = [j.evaluation for j in order(standings.judgements()) if j.possible][:MOST_COMPARED]
        files = {e.id: e for e in (*possible, *standings.front()) if e.id not in standings.measured.losses}
        losses = await self._differences(standings.reference, list(files.values()))
        if losses:
            self._history.enter(Compared(losses))

    async def _compare_with_each_other(self, chosen: Evaluation) -> None:
        """What files lose beside each other, while there is time: beside what was chosen of those that apply the same
        techniques the best, and the best of all; and the best single technique beside the best combination.
        """
        standings = self._standings
        if not chosen.score.whole:
            return
        judged = standings.judgements()
        whole = [j for j in most_accurate_first(judged) if j.evaluation.score.whole]
        ranked = [
            j.evaluation for j in sorted(whole, key=lambda j: not j.recommendable) if j.evaluation.id != chosen.id
        ]
        of_techniques = {e.recipe.techniques(): e for e in reversed(ranked)}
        others = {e.id: e for e in (*of_techniques.values(), *ranked[:MOST_COMPARED])}
        kinds = rivals(judged, standings.reported_front(), standings.compressing)
        wanted = [*((chosen, e) for e in others.values()), *kinds]
        store, losses, took_s = Store(self._pipeline.folder.stored), dict[str, dict[str, tuple[float, float]]](), 0.0
        known = {frozenset(pair) for pair in standings.measured.beside}
        for one, other in wanted:
            if self._clock.left() < WRITING_S + took_s:
                break
            if {one.id, other.id} not in known and all(store.path(e.outputs).exists() for e in (one, other)):
                known.add(frozenset((one.id, other.id)))
                began = self._clock.elapsed()
                losses.setdefault(one.id, {}).update(await self._differences(one, [other]))
                took_s = max(took_s, self._clock.elapsed() - began)
        for file, found in losses.items():
            if found:
                self._history.enter(ComparedWith(file, found))

    async def _differences(self, best: Evaluation, others: Sequence[Evaluation]) -> dict[str, tuple[float, float]]:
        """By id the score of ``best`` minus its own on the same examples, with the standard error; nothing of files
        whose outputs are not kept any more.
        """
        try:
            found = await self._operations.differences(
                best.outputs, [e.outputs for e in others], limit_s=self._durations.within(TEST_LIMIT_S)
            )
        except CandidateFailed:
            return {}
        return {e.id: pair for e, pair in zip(others, found, strict=True)}

    async def _test_reference(self) -> dict[str, float]:
        """Score the reference on the test split, while finalists are timed: whatever is chosen stands beside it."""
        reference = self._standings.reference
        if not self._is_untested(reference) or not self._time.can_test(reference):
            return {}
        return await self._tested([reference])

    async def _test_once(self, chosen: Evaluation, scores: dict[str, float]) -> None:
        """Score what was chosen and the reference on the test split, then the rest of the front while there is time; a
        file once tested is not tested again. scores: of what was tested before the choice.
        """
        standings = self._standings
        wanted = {"reference", chosen.id, *(e.id for e in standings.reported_front()[:MEASURED_AGAIN])}
        files = {e.id: e for e in standings.candidates() if e.id in wanted}
        new = [e for e in files.values() if e.digest not in scores and self._is_untested(e)]
        first = [e for e in new if e.id in ("reference", chosen.id)]
        found = await self._tested(first)
        late = 0
        for e in (e for e in new if e not in first) if found or not first else ():
            if self._time.can_test(e):
                found |= await self._tested([e])
            else:
                late += 1
        if late:
            self._view.note(f"{late} files of the front have no test score: there was no time for it")
        scores = scores | found
        finite = {digest: score for digest, score in scores.items() if math.isfinite(score)}
        if len(finite) < len(scores):
            self._view.note(
                f"the metric is not a finite number on the test split for {len(scores) - len(finite)} of {len(scores)} "
                "files: they have no test score"
            )
        if scores:
            self._history.enter(ScoredOnTest(finite))

    def _is_untested(self, evaluation: Evaluation) -> bool:
        """Whether there is a test split, and the file was not scored on it in an earlier part of this search."""
        tests = self._standings.tests
        return bool(self._standings.opening.prepared.test_examples) and evaluation.digest not in tests

    async def _tested(self, evaluations: Sequence[Evaluation]) -> dict[str, float]:
        """The metric on the test split by the digest of the file; nothing of those that could not be scored."""
        if not evaluations:
            return {}
        asked = [ModelFile(e.recipe, e.artifact, e.digest, e.graph) for e in evaluations]
        limit_s = TEST_LIMIT_S + TEST_SLACK * self._time.tested_s()
        try:
            scores = await self._operations.test(asked, limit_s=limit_s)
        except CandidateFailed as error:
            self._view.note(f"the test split could not be scored: {error.reason}")
            return {}
        return {e.digest: score for e, score in zip(evaluations, scores, strict=True)}

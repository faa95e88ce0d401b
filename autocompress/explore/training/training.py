"""Families trained and evaluated, with what is kept of each: an earlier training goes on where it was left."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.request import TrainRequest
from autocompress.compute.worker import WorkerDied
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Outcome
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.history.facts import Evaluated, Failed
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.pipeline.scoring import anything_stands
from autocompress.explore.progress import Progress
from autocompress.explore.schedule import rungs
from autocompress.explore.schedule.time_budget import TimeBudget
from autocompress.explore.standings.standings import Standings
from autocompress.recipe import TRAIN, Recipe, Step
from autocompress.storage.folder import RunFolder

CALL_SLACK_S = 180.0  # export, quantization and measuring around a training
SCORED_TWICE = 2.0  # times what scoring should take
TRIM_EVERY = 20  # families, between two looks at how much is stored


class Training:
    """``worth_below`` answers the latency ratio at and above which a file adds nothing; None when all may."""

    def __init__(
        self,
        pipeline: Pipeline,
        standings: Standings,
        history: History,
        progress: Progress,
        folder: RunFolder,
        clock: Clock,
        durations: Durations,
        time: TimeBudget,
        worth_below: Callable[[], float | None],
    ) -> None:
        self._pipeline = pipeline
        self._standings = standings
        self._history = history
        self._progress = progress
        self._folder = folder
        self._clock = clock
        self._durations = durations
        self._time = time
        self._worth_below = worth_below
        self._busy: dict[str, Recipe] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self.running = 0  # families under way now, without those that were cut off and stay pending

    def is_busy(self, recipe: Recipe) -> bool:
        return recipe.id in self._busy

    @property
    def busy(self) -> set[str]:
        """Ids of the families that are under way."""
        return set(self._busy)

    @property
    def under_way_now(self) -> tuple[Recipe, ...]:
        """Recipes of the families that are under way."""
        return tuple(self._busy.values())

    @property
    def arithmetic(self) -> Arithmetic:
        """In which trainings compute."""
        return self._progress.arithmetic or Arithmetic()

    async def begin(self, recipe: Recipe, gate: Gate) -> Outcome:
        """A new family as it was repaired; its first training where nothing of it can be."""
        first, skip = self._time.lengths[rungs.TRAINED], gate.slower
        request = TrainRequest(
            recipe,
            rung=rungs.UNTRAINED,
            limit_s=None if recipe.step(TRAIN) else self._training_s(first),  # what nothing trains is reconstructed
            plans=gate.plans,
        )
        outcome = await self.evaluate(request, skip, first_look=True)
        if outcome.evaluations:
            return outcome
        trained = replace(
            request,
            arithmetic=self.arithmetic,
            rung=rungs.TRAINED,
            examples=first.examples,
            limit_s=self._training_s(first),
            length_s=first.seconds,
            plans=outcome.plans,
        )
        return await self.evaluate(trained, skip)

    def _training_s(self, length: rungs.Length) -> float:
        """What a training of that length may take now."""
        return min(length.seconds, self._time.training_s())

    async def evaluate(
        self, request: TrainRequest, skip: tuple[Step, ...] = (), *, first_look: bool = False
    ) -> Outcome:
        """Train a family and measure its files, those of a finalist on all examples. skip: graph variants that are
        known to be slower. first_look: see ``Pipeline.evaluate``.
        """
        skip = tuple(dict.fromkeys((*skip, *self._standings.slower_variants(request.recipe))))
        limit_s = (request.limit_s or 0.0) + CALL_SLACK_S + SCORED_TWICE * self._time.scored_s()
        outcome = await self._pipeline.evaluate(
            request,
            skip=skip,
            worth_below=self._worth_below(),
            stands=anything_stands if request.length_s is None and request.examples else self._standings.would_stand,
            limit_s=self._durations.within(limit_s),
            first_look=first_look,
        )
        now = self._clock.elapsed()
        return replace(outcome, evaluations=tuple(e.at(now) for e in outcome.evaluations))

    async def advance(self, family: Family, total: rungs.Length) -> None:
        """Train a family on, up to ``total`` in all, from its checkpoint, with warm-up and annealing anew."""
        last = family.latest
        limit_s = max(total.seconds - family.train_s, 1.0)
        request = TrainRequest(
            family.recipe,
            self.arithmetic,
            rung=family.rung + 1,
            start=family.examples,
            examples=max(total.examples - family.examples, 0),
            limit_s=limit_s,
            length_s=limit_s if total in self._time.lengths else None,  # a finalist trains as long as there is time
            checkpoint=last.checkpoint,
            plans=last.plans,
            learned=last.learned,
            calibration=last.calibration,
        )
        with self.under_way(family.recipe):
            try:
                self._history.enter(Evaluated(family.recipe, await self.evaluate(request)))
            except CandidateFailed as error:
                if self.is_cut_off(error):
                    return
                self._history.enter(Failed(family.recipe, error.strategy, error.reason))

    @contextmanager
    def under_way(self, recipe: Recipe) -> Iterator[None]:
        """While open, no other coroutine takes this recipe; after a kill it is what is tried first."""
        self._busy[recipe.id] = recipe
        self._keep_pending()
        try:
            with self._told():
                yield
        except CandidateFailed as error:
            if not self.is_cut_off(error):
                del self._busy[recipe.id]
            raise
        del self._busy[recipe.id]  # after any other error, and when the time was over, it stays pending
        self.save_progress()

    async def one_ends(self) -> None:
        """Wait until a family that is under way is not any more."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ended)
        await ended

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Who waits for a family to end goes on when this ends, however it does, in the loop's next round."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            waiting, self._waiting = self._waiting, []
            for ended in waiting:
                ended.set_result(None)

    def is_cut_off(self, error: CandidateFailed) -> bool:
        """Whether an operation was ended because the time of the search is over, which is no fault of the
        candidate's.
        """
        return isinstance(error, WorkerDied) and self._clock.left() <= 0

    def save_progress(self) -> None:
        """Record how far the search has come, and keep the store within its bounds."""
        self._keep_pending()
        self._progress.keep_elapsed(self._clock.elapsed())
        if len(self._standings.families) % TRIM_EVERY == 0:
            self._folder.trim({*self._standings.in_use(), self._pipeline.prepared.feeds})

    def _keep_pending(self) -> None:
        self._progress.keep_pending(self._busy.values())

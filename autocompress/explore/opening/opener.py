"""From what was asked to an opened search: the task prepared, the reference evaluated, the floor known."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from autocompress.candidate.preparation import Preparation
from autocompress.compute.operations import Operations
from autocompress.compute.starting import fix_of
from autocompress.compute.worker import OPEN_LIMIT_S, WorkerDied
from autocompress.errors import AutocompressError, CandidateFailed, UsageError
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.opening import identity
from autocompress.explore.opening.floor import Floor, time_floor
from autocompress.explore.opening.identity import Settings
from autocompress.explore.opening.opening import EarlierOpening, Opening
from autocompress.explore.opening.reference import informed, open_reference
from autocompress.explore.pipeline.gating import Gating
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.pipeline.scoring import sample_of
from autocompress.explore.pipeline.timed_graphs import JUDGING_SESSIONS, session_s
from autocompress.explore.pipeline.variants import untimed
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.progress import Progress
from autocompress.explore.space.space import Space
from autocompress.measure import USUAL
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import Record

TIMED_WITHIN_S = 30.0  # that timing a training step may take; it takes about 3: not measured where it is long
OTHER_EXPORTER_SHARE = 0.01  # of a search's time: the other exporter takes about as long as opening the task did

T = TypeVar("T")


@dataclass(frozen=True)
class Opened:
    """All that a search begins with. gating, pipeline: on the opened task."""

    opening: Opening
    space: Space
    floor: Floor
    pipeline: Pipeline
    gating: Gating
    policy: SearchPolicy


@dataclass(frozen=True)
class Opener:
    """check_interrupted: raises Interrupted when the search is to end. show: told of the opening once there are
    first points. note: told what a user should read."""

    settings: Settings
    operations: Operations
    folder: RunFolder
    record: Record
    clock: Clock
    durations: Durations
    check_interrupted: Callable[[], None]
    show: Callable[[Opening, Space], None]
    note: Callable[[str], None]
    policy: SearchPolicy = SearchPolicy()

    async def open(self) -> Opened:
        """Open the task and what an earlier process recorded: the unchanged model's files are the first points of the
        front. Where none of them meets the budget, look whether anything can. Raises UsageError when this is not the
        same search.
        """
        progress = Progress(self.record)
        identity.refuse_another_version(progress)
        stored, began, only = progress.opening, self.clock.elapsed(), self.settings.space.strategies
        known = EarlierOpening.from_json(stored) if stored else None
        limit_s = max(OPEN_LIMIT_S, self.clock.limit_s)
        with self.operations.sharing(1):  # other workers have nothing to do yet
            first = await _named(self.operations.prepare(known.prepared if known else None, only, limit_s=limit_s))
            prepared_s = progress.prepared_s or self.clock.elapsed() - began
            space = Space.of(self.settings.space, first.applicable, first.refused, first.training)
            identity.refuse_another_search(progress, self.settings, space)
            pipeline = self._pipeline(first, only)
            compared = self.policy.compare_exporters and prepared_s <= OTHER_EXPORTER_SHARE * self.clock.limit_s
            opening = await _named(open_reference(pipeline, known, only, limit_s=limit_s, compare_exporters=compared))
            self._refuse_an_undecidable_percentile(opening)
            await self._refuse_without_classes(opening, limit_s)
            space = Space.of(self.settings.space, opening.applicable, opening.refused, first.training)
            opening = replace(opening, warnings=(*opening.warnings, *self._said(opening, space)))
            self.show(opening, space)
            if space.training and self.policy.explores and progress.arithmetic is None:
                timed_s = TIMED_WITHIN_S + prepared_s  # a worker that is asked may have to open the task first
                progress.keep_arithmetic(await _named(self.operations.time_training(limit_s=timed_s)))
            keep = partial(
                progress.keep_opened,
                identity=identity.identity_of(self.settings, space),
                prepared_s=prepared_s,
                opening=EarlierOpening.of(opening).to_json(),
            )
            floor = self._known_floor(progress, space)
            keep(floor=None if floor is None else floor.to_json())  # before that, nothing is recorded
            reference, val_examples = opening.reference, opening.prepared.val_examples
            sample = sample_of(reference, val_examples, self.settings.profile.batch, self.clock.limit_s)
            pipeline = replace(informed(pipeline, opening, only), sample=sample)
            if floor is None:
                floor = await self._floor(opening, space, self._gating(pipeline, prepared_s))
        keep(floor=floor.to_json())
        return Opened(opening, space, floor, pipeline, self._gating(pipeline, prepared_s), self.policy)

    async def _refuse_without_classes(self, opening: Opening, limit_s: float) -> None:
        """Raises UsageError when classes are to be compared and those of the reference cannot be."""
        if self.settings.budget.max_class_drop is None:
            return
        outputs = opening.reference.outputs
        try:
            found = await self.operations.by_class(outputs, outputs, limit_s=limit_s)
        except CandidateFailed:  # a resume whose store was trimmed
            return
        if found is None or not found.rows:
            raise UsageError(
                "--max-class-drop compares the classes of the validation split, which cannot be done here: it takes "
                "integer labels, ten examples of a class, and a metric that is a mean over examples and quick, such as "
                "accuracy or a callable; Task.groups names other groups than classes"
            )

    def _refuse_an_undecidable_percentile(self, opening: Opening) -> None:
        """Raises UsageError when all sessions of a finalist have too few calls for the profile's percentile."""
        budget_ms, profile = self.settings.budget.latency_ms, self.settings.profile
        if budget_ms is None:
            return
        both_ms = (budget_ms + opening.reference.latency.p50) * len(profile.sizes)
        calls = max(USUAL.fewest, 1e3 * session_s(self.clock.limit_s) / both_ms)
        if JUDGING_SESSIONS[1] * calls * (1 - profile.percentile / 100) < 1:
            raise UsageError(
                f"the {profile.statistic} of a model that takes {budget_ms:g} ms cannot be told from "
                f"{JUDGING_SESSIONS[1] * calls:.0f} calls, which is what there is time for: give a profile with a "
                "lower statistic"
            )

    def _pipeline(self, prepared: Preparation, only: Sequence[str] | None) -> Pipeline:
        settings = self.settings
        ratios = untimed(prepared.applicable, only)
        return Pipeline(
            self.operations,
            self.folder,
            settings.profile,
            settings.seed,
            prepared,
            ratios,
            session_s=session_s(self.clock.limit_s),
            now=self.clock.elapsed,
            most_variants=self.policy.most_variants,
        )

    def _gating(self, pipeline: Pipeline, prepared_s: float) -> Gating:
        return self.policy.parts.gating(pipeline, prepared_s, self.durations, self.check_interrupted)

    def _known_floor(self, progress: Progress, space: Space) -> Floor | None:
        """The floor that an earlier process found in this space."""
        if progress.identity != identity.identity_of(self.settings, space):
            return None
        return Floor.from_json(self.settings.budget, progress.floor)

    async def _floor(self, opening: Opening, space: Space, gating: Gating) -> Floor:
        """Not looked for where a file of the unchanged model meets the budget."""
        budget = self.settings.budget
        unchanged = (opening.reference, *opening.reference_family.evaluations)
        if not self.policy.explores or not budget.bounded or any(budget.excess(e.latency) <= 0 for e in unchanged):
            return Floor(budget)
        floor = await time_floor(space, gating, budget, self.clock, self.policy)
        if note := floor.note():
            self.note(note)
        return floor

    def _said(self, opening: Opening, space: Space) -> list[str]:
        named = set(self.settings.space.strategies or ())
        said = [f"{a.name}: {a.size_only}" for a in opening.applicable if a.name in named and a.size_only]
        if small := self.settings.budget.small_drop(opening.metric):
            said.append(small)
        if space.structural and not space.training and self.policy.explores:
            said.append("nothing is trained: changed structures are repaired, reconstructed and measured as they are")
        return said


async def _named(operation: Awaitable[T]) -> T:
    """An operation without which there is no search. Raises AutocompressError when it ends the worker."""
    try:
        return await operation
    except WorkerDied as error:
        at = f' at "{error.doing}"' if error.doing else ""
        fix = fix_of(error.reason) or (
            "a large task needs more --minutes, and a strategy that is named there can be left out (--space)"
        )
        raise AutocompressError(f"the task could not be opened{at}: {error.reason}; {fix}") from error

"""What a search is given in place of worker processes: each operation takes the time that is declared, or its limit,
and is answered with what is declared. The groups that operations belong to are entered in a log.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.preparation import KnownTask, Preparation
from autocompress.candidate.request import (
    FamilyFiles,
    Made,
    MakeRequest,
    ModelFile,
    NotScored,
    Sample,
    Scored,
    TrainedWeights,
    TrainRequest,
)
from autocompress.changed_examples import ChangedExamples
from autocompress.comparison import TimingSession
from autocompress.compute.executor import BEGINS
from autocompress.compute.idle import Idle
from autocompress.compute.operations import Strategies, Surveyed
from autocompress.compute.waiting import waiting
from autocompress.compute.worker import WorkerCrashed, WorkerDied
from autocompress.errors import CandidateFailed, Interrupted
from autocompress.evaluation import Chance, OnDevice, Score
from autocompress.group_losses import GroupLoss, GroupLosses
from autocompress.measure import CompareRequest
from autocompress.plugin.contract import Stage
from autocompress.recipe import Recipe, Step

from . import declared as cost
from . import entries
from .declared import Declared, exact
from .entries import Log
from .files import Remembered
from .preparation import preparation
from .scenarios import Stop

Call = tuple[str, tuple[Any, ...], float | None]  # method, arguments, limit

REPAIRED_ON = {
    "examples": 37,
    "digest": "d",
    "whole_split": True,
    "few_rows": [{"layer": "head", "rows": 28, "regressors": 64}],
}
SIGSEGV = "the worker process ended (SIGSEGV); see worker.log"


class Killed(BaseException):
    """The process ended at once."""


@dataclass
class DeclaredExecutor:
    """Both executors of a search. asked: how often each group was, over all processes of the scenario. crashing: which
    evaluations end the worker, by that number. stop: how this process ends before the search does; ``interrupted`` once
    it is to. log: of the groups. calls: of each operation, as it was asked for.
    """

    declared: Declared
    concurrency: int
    asked: Counter[str]
    remembered: Remembered
    root: Path
    crashing: frozenset[int] = frozenset()
    stop: Stop | None = None
    log: Log = field(default_factory=Log)
    calls: list[Call] = field(default_factory=list)
    interrupted: bool = False

    def __post_init__(self) -> None:
        self._idle = Idle(range(self.concurrency), in_turn=False)
        self._opening: entries.Entry | None = None  # the group, until its first operation is asked for
        self.groups: dict[str, tuple[tuple[Step, ...], float | None, float]] = {}  # of an evaluation, by recipe

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any:
        if method == "compare":  # by a process that does nothing else
            return await self._called(method, *args, limit_s=limit_s)
        with waiting():
            worker = await self._idle.get(may_wait=method == BEGINS)
        try:
            return await self._called(method, *args, limit_s=limit_s)
        finally:
            self._idle.put(worker)

    async def _called(self, method: str, *args: Any, limit_s: float | None) -> Any:
        self.calls.append((method, args, limit_s))
        return await getattr(self, f"_{method}")(*args, limit_s=limit_s)

    def start(self) -> None: ...

    def opened(self, prepared: Preparation, only: Strategies) -> None:
        self.calls.append(("opened", (prepared, only), None))
        self._opens()  # when all was known nothing is asked before

    @contextmanager
    def sharing(self, calls: int) -> Iterator[None]:
        self.calls.append(("sharing", (calls,), None))
        yield
        self.calls.append(("shared", (), None))

    def spent(self) -> dict[str, float]:
        return {}

    def kill(self) -> None: ...

    def close(self) -> None: ...

    async def begins(self, group: str, half_s: float = 0.0) -> None:
        """A group begins; when something ends it, after ``half_s``."""
        self.asked[group] += 1
        ends = self._ends(group)
        if ends is None:
            return
        await asyncio.sleep(exact(half_s))
        raise ends

    async def takes(self, seconds: float, limit_s: float | None, doing: str) -> None:
        late = limit_s is not None and seconds > limit_s
        await asyncio.sleep(exact(limit_s if late and limit_s is not None else seconds))
        if late:
            raise WorkerDied(f"no answer within {limit_s:.0f} s: it was stopped", doing=doing)

    def _ends(self, group: str) -> BaseException | None:
        """What ends this group half way, if anything does."""
        if group == "evaluate" and self.asked[group] in self.crashing:
            return WorkerCrashed(SIGSEGV, doing="train")
        if self.stop is None or (group, self.asked[group]) != (self.stop.method, self.stop.number):
            return None
        self.interrupted = self.stop.how in ("asked", "in the call")
        ends: dict[str, BaseException | None] = {
            "asked": None,
            "in the call": Interrupted("stopped at a safe point"),
            "killed": Killed(),
            "crashed": WorkerCrashed(SIGSEGV, doing="does it apply?"),
        }
        return ends[self.stop.how]

    # Operations.

    async def _prepare(self, known: KnownTask | None, only: Strategies, limit_s: float | None) -> Preparation:
        self.log.add(entries.prepare(known=known is not None, only=only, limit_s=limit_s))
        self._opening = entries.opened(known=known is not None, only=only, limit_s=limit_s)
        await self.begins("prepare")
        await self.takes(cost.PREPARE_S + (cost.OPEN_S if known else 0.0), limit_s, "prepare")
        found = preparation(self.declared.kind, known, only)
        self.remembered.knows(Recipe(), found.reference.path, 0)
        return found

    async def _other_reference(self, exporter: str, limit_s: float) -> ModelFile:
        self._opens()
        await self.takes(cost.OTHER_EXPORTER_S, limit_s, "other_reference")
        if self.declared.faults.other_exporter:
            raise CandidateFailed(self.declared.faults.other_exporter)
        path = self.root / "scratch" / f"{exporter}.onnx"
        path.parent.mkdir(exist_ok=True)
        path.write_text(exporter)
        return ModelFile(Recipe(), path.relative_to(self.root).as_posix(), exporter, self.declared.graph(Recipe()))

    async def _survey(self, only: Strategies, limit_s: float) -> Surveyed:
        kind = self.declared.kind
        asked = [a for a in kind.applicable if only is None or a.name in only]
        self._opens()
        await self.begins("open", cost.SURVEY_S / 2)
        await self.takes(cost.SURVEY_S, limit_s, "survey")
        return tuple(a for a in asked if Stage.GRAPH in a.stages), kind.refused

    async def _time_training(self, limit_s: float) -> Arithmetic:
        await self.takes(cost.TRAINING_TIMED_S, limit_s, "time_training")
        return Arithmetic()

    async def _train(self, request: TrainRequest, limit_s: float) -> TrainedWeights:
        recipe, declared = request.recipe, self.declared
        skip, worth_below, whole_limit_s = self.groups[recipe.id]
        self.log.add(
            entries.evaluate(
                recipe,
                rung=request.rung,
                start=request.start,
                examples=request.examples,
                train_s=request.limit_s,
                length_s=request.length_s,
                checkpoint=request.checkpoint,
                plans=request.plans,
                learned=request.learned,
                skip=skip,
                worth_below=worth_below,
                limit_s=whole_limit_s,
            )
        )
        await self.begins("evaluate", 0.5 * (request.limit_s or cost.STRUCTURE_S))
        try:
            plans = declared.plans(recipe)
        except CandidateFailed:
            await self.takes(cost.STRUCTURE_S, limit_s, "evaluate")
            raise
        seen, key = request.start if request.checkpoint else 0, f"{recipe.id}-{request.rung}"
        if not declared.trains(recipe) or not request.examples:
            await self.takes(cost.STRUCTURE_S, limit_s, "evaluate")
            self.remembered.seen[key] = seen
            weights = request.checkpoint or declared.repaired(recipe)
            on = request.calibration if request.checkpoint else REPAIRED_ON if weights else {}
            return TrainedWeights(recipe, plans, weights, {}, self._epochs(seen), calibration=on)
        of = {"rung": request.rung, "start": request.start, "examples": request.examples}
        try:
            trained = declared.train(recipe, **of, limit_s=request.limit_s)
        except CandidateFailed:
            await self.takes(cost.STRUCTURE_S, limit_s, "evaluate")
            raise
        hanging = cost.HANG if trained.hangs else 1
        await self.takes(cost.STRUCTURE_S + trained.seconds * hanging, limit_s, "evaluate")
        seen = request.start + trained.examples
        self.remembered.seen[key] = seen
        learned, on = dict(trained.learned), request.calibration
        spent = trained.examples, trained.seconds
        return TrainedWeights(recipe, plans, trained.checkpoint, learned, self._epochs(seen), *spent, on)

    async def _make(self, request: MakeRequest, limit_s: float) -> Made:
        recipe, spent_s = request.recipe, 0.0
        rung = request.rung if isinstance(request, FamilyFiles) else None
        if isinstance(request, FamilyFiles):
            plans = request.weights.plans
        elif request.source is None:
            spent_s += cost.STRUCTURE_S
            try:
                plans = self.declared.plans(recipe)
            except CandidateFailed:
                await self.takes(spent_s, limit_s, "gate")
                raise
        else:
            plans = ()
        spent_s += cost.EXPORT_S if request.source is None else 0.0
        source = request.source or self._file(recipe, rung)
        files, failed = [], []
        for variant in request.variants:
            spent_s += cost.REWRITE_S
            made = recipe.rewritten(variant)
            try:
                self.declared.make(made)
                files.append(self._file(made, rung))
            except CandidateFailed as error:
                failed.append((made, error.strategy or "", error.reason))
        await self.takes(spent_s, limit_s, "gate" if rung is None else "evaluate")
        macs = self.declared.macs(recipe)
        return Made(source, request.exporter, plans, macs, tuple(files), tuple(failed))

    async def _compare(self, request: CompareRequest, limit_s: float) -> TimingSession:
        path = request.candidate.relative_to(self.root).as_posix()
        if path not in self.remembered.recipes:
            await self.takes(cost.EXPORTERS_TIMED_S, limit_s, "open")
            return self.declared.exporters_timing()
        trained = not path.startswith("store/")
        await self.takes(cost.TIMED_S, limit_s, "compare")
        return self.declared.timing(self.remembered.recipes[path], trained)

    async def _operators(self, file: Path, feeds: str, limit_s: float) -> dict[str, float]:
        return {"Conv": 2.0, "Gemm": 1.0}

    async def _memory(self, file: Path, feeds: str, limit_s: float) -> int:
        path = file.relative_to(self.root).as_posix()
        return 3 * self.declared.bytes_of(self.remembered.recipes[path])

    async def _chance(self, outputs: str, limit_s: float) -> Chance:
        return Chance(cost.CHANCE, 0.001)

    async def _score(
        self, files: Sequence[ModelFile], sample: Sample | None, limit_s: float
    ) -> tuple[Scored | NotScored, ...]:
        share = 1.0 if sample is None else sample.examples / self.declared.kind.val_examples
        await self.takes(share * cost.SCORED_S * len(files), limit_s, "evaluate")
        return tuple(self._scored(file, sample) for file in files)

    async def _test(self, files: Sequence[ModelFile], limit_s: float) -> list[float]:
        names = [Path(file.path).parent.name for file in files]
        self.log.add(entries.test(names, limit_s=limit_s))
        await self.begins("test")
        await self.takes(cost.SCORED_S * len(files), limit_s, "test")
        if self.declared.faults.untested:
            raise CandidateFailed("the file opens and does not run")
        rungs = [self.remembered.rungs[file.path] for file in files]
        return [
            self.declared.test_score(file.recipe, rung, self.remembered.scores[name])
            for file, name, rung in zip(files, names, rungs, strict=True)
        ]

    async def _run_on_device(self, file: ModelFile, reference: str, limit_s: float) -> OnDevice:
        await self.takes(cost.SCORED_S, limit_s, "run_on_device")
        score = self.remembered.scores[Path(file.path).parent.name]
        variant = file.recipe.variant
        if variant is not None and variant.strategy == self.declared.faults.failing_elsewhere:
            return OnDevice(failed="no such operator")
        if variant is None or variant.strategy != self.declared.faults.fallen_elsewhere:
            return OnDevice(200, 1e-6, 0.0, 0.0)
        name, there = f"{Path(file.path).parent.name}-there", score - 0.1
        self.remembered.scores[name] = there
        loss = self.remembered.scores[reference.removeprefix("val-")] - there, 0.002
        return OnDevice(200, 0.2, -0.1, 0.02, Score(there, there - 0.01, there + 0.01), loss, f"val-{name}")

    async def _differences(self, best: str, others: Sequence[str], limit_s: float) -> list[tuple[float, float]]:
        best, others = best.removeprefix("val-"), [other.removeprefix("val-") for other in others]
        self.log.add(entries.compare(best, others, limit_s=limit_s))
        await self.begins("compare")
        await self.takes(cost.DIFFERENCE_S * len(others), limit_s, "compare")
        if self.declared.faults.outputs_gone:
            raise CandidateFailed(f"the stored outputs of {best} are missing")
        scores = self.remembered.scores
        return [self.declared.difference(scores[best], scores[other]) for other in others]

    async def _by_class(self, reference: str, own: str, limit_s: float) -> GroupLosses | None:
        """The rare class loses several times what all lose."""
        if self.declared.faults.outputs_gone:
            return None
        best, other = (self.remembered.scores[key.removeprefix("val-")] for key in (reference, own))
        loss, error = self.declared.difference(best, other)
        shares = ("common", 9000, 1.0), ("rare", 500, cost.RARE_LOSES)
        rows = [GroupLoss(name, n, best, best - times * loss, times * loss, 2 * error) for name, n, times in shares]
        return GroupLosses("class", tuple(rows), ("rarest",))

    async def _changed_examples(
        self, file: ModelFile, reference: str, own: str, seconds: float, again: int, limit_s: float
    ) -> ChangedExamples | None:
        return None if self.declared.faults.outputs_gone else ChangedExamples(9500, 12, 4, ())

    # What they are made of.

    def _opens(self) -> None:
        """Enter that the task is opened, at the first operation of it."""
        if self._opening is not None:
            self.log.add(self._opening)
            self._opening = None

    def _file(self, recipe: Recipe, rung: int | None) -> ModelFile:
        name = recipe.id if rung is None else f"{recipe.id}-{rung}"
        path = f"store/scratch/{name}.onnx" if rung is None else f"candidates/{name}/model.onnx"
        self.remembered.knows(recipe, path, rung or 0)
        return ModelFile(recipe, path, f"digest-{name}", self.declared.graph(recipe))

    def _scored(self, file: ModelFile, sample: Sample | None) -> Scored | NotScored:
        declared, name = self.declared, Path(file.path).parent.name
        rung, recipe = self.remembered.rungs[file.path], file.recipe
        try:
            seen = self.remembered.seen.get(f"{recipe.family.id}-{rung}", 0)
            score = declared.score(recipe, rung, seen, sample.examples if sample else None)
        except CandidateFailed as error:
            return NotScored(None, error.reason)
        self.remembered.scores[name] = score
        sampled, size = sample.examples if sample else None, declared.bytes_of(recipe)
        own = Score(score, round(score - 0.01, 6), round(score + 0.01, 6), sampled=sampled)
        return Scored(own, size, round(0.9 * size), declared.params(recipe), declared.macs(recipe), f"val-{name}")

    def _epochs(self, seen: int) -> float:
        return round(seen / self.declared.kind.train_examples, 4)

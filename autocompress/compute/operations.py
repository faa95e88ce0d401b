"""What a search may ask to be computed: the typed list, with time limits and what is tried again in one place.

Each operation hands on the digests and keys of what it made. What is measured of a file runs on a target, and holds no
worker that computes.
"""

from asyncio import sleep
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.capabilities import capabilities
from autocompress.candidate.preparation import KnownTask, Preparation
from autocompress.candidate.request import (
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
from autocompress.compute.executor import Executor
from autocompress.compute.waiting import waiting
from autocompress.compute.worker import WorkerCrashed, WorkerDied
from autocompress.evaluation import Chance, OnDevice
from autocompress.group_losses import GroupLosses
from autocompress.measure import CompareRequest, DeviceLost
from autocompress.plugin.contract import Applicable, Refusal
from autocompress.supervisor import tell_nobody

DEVICE_PATIENCE_S, ASK_AGAIN_S = 180.0, 2.0  # with a device that does not answer
PLAINLY = "in float32 and the default memory layout"

Strategies = Sequence[str] | None  # those of the search space; None for all that are installed
Surveyed = tuple[tuple[Applicable, ...], tuple[Refusal, ...]]


class Operations(Protocol):
    """concurrency: how many operations can run at once; families: how many candidates can be under way, more where
    files of some are timed while others are computed. limit_s: seconds after which one without an answer is ended.

    All raise CandidateFailed when what was asked for cannot be made, WorkerDied (one of those) when the process that
    computed ended or was ended, Interrupted at a safe point, and UsageError for a task that no search could use.
    """

    @property
    def concurrency(self) -> int: ...
    @property
    def families(self) -> int: ...

    async def prepare(self, known: KnownTask | None, only: Strategies, *, limit_s: float) -> Preparation:
        """Open the task: all that a gate needs. known: what another process found; what it exported is kept."""

    async def other_reference(self, exporter: str, *, limit_s: float) -> ModelFile:
        """The unchanged model, by another exporter."""

    async def survey(self, only: Strategies, *, limit_s: float) -> Surveyed:
        """What the strategies with a graph part offer, for files that will be scored."""

    async def time_training(self, *, limit_s: float) -> Arithmetic:
        """How a training step is computed fastest; where trying that ends the worker or takes too long, the plainest
        arithmetic.
        """

    def opened(self, prepared: Preparation, only: Strategies) -> None:
        """What every worker that is started from now on begins with."""

    async def train(self, request: TrainRequest, *, limit_s: float) -> TrainedWeights:
        """Build a family's structure and train it; when the worker crashes, once more from where it was kept, in the
        plainest arithmetic.
        """

    async def make(self, request: MakeRequest, *, limit_s: float) -> Made:
        """Export a family or an untrained structure, and rewrite the file into its graph variants."""

    async def compare(self, request: CompareRequest, *, limit_s: float) -> TimingSession:
        """One session of a file beside the reference, on the target; where a device elsewhere does not answer, once it
        does. Raises DeviceLost when that takes too long.
        """

    async def operators(self, file: Path, feeds: str, *, limit_s: float) -> Mapping[str, float]:
        """Milliseconds of a call by kind of operator, by the target's own profile. feeds: store key of the inputs."""

    async def memory(self, file: Path, feeds: str, *, limit_s: float) -> int:
        """Bytes that opening and calling a file take on the target. feeds: store key of the inputs."""

    async def score(
        self, files: Sequence[ModelFile], sample: Sample | None = None, *, limit_s: float
    ) -> tuple[Scored | NotScored, ...]:
        """Score files on the validation split, or on a sample of it."""

    async def test(self, files: Sequence[ModelFile], *, limit_s: float) -> list[float]:
        """The metric of files on the test split."""

    async def run_on_device(self, file: ModelFile, reference: str, *, limit_s: float) -> OnDevice:
        """A file on the device elsewhere beside this machine. reference: store key of the reference's outputs. Raises
        DeviceLost as ``compare`` does.
        """

    async def differences(self, best: str, others: Sequence[str], *, limit_s: float) -> list[tuple[float, float]]:
        """For each of ``others``: (score of ``best`` minus its own on the same examples, standard error)."""

    async def by_class(self, reference: str, own: str, *, limit_s: float) -> GroupLosses | None:
        """What a file loses against the reference in each class or group of examples; None where that cannot be told.
        Both are store keys of outputs.
        """

    async def changed_examples(
        self, file: ModelFile, reference: str, own: str, *, seconds: float, again: int, limit_s: float
    ) -> ChangedExamples | None:
        """The examples that a file does worse on than the reference; None where that cannot be told, or takes longer.
        reference, own: store keys of outputs. again: how many examples are run again, by both.
        """

    async def chance(self, outputs: str, *, limit_s: float) -> Chance | None:
        """What the metric gives for the reference's outputs where they have nothing to do with the targets; None where
        it cannot be worked out.
        """

    def sharing(self, calls: int) -> AbstractContextManager[None]:
        """While open, at most so many operations run at once, and each has more of the cores."""

    def spent(self) -> dict[str, float]:
        """Seconds by what they went into."""


class WorkerOperations:
    """Operations on worker processes. computing: those that hold the task. comparing: those that time files, one for
    each device; beside: how many of these time while others compute.

    clock: seconds. note: told what a user should read. settled: told the arithmetic that trainings keep to, once
    another one crashed.
    """

    def __init__(
        self,
        computing: Executor,
        comparing: Executor,
        clock: Callable[[], float],
        note: Callable[[str], None] = tell_nobody,
        settled: Callable[[Arithmetic], None] = tell_nobody,
        beside: int = 0,
    ) -> None:
        self._computing = computing
        self._beside = beside
        self._comparing = comparing
        self._clock = clock
        self._note = note
        self._settled = settled
        self._crashing: set[Arithmetic] = set()
        self._lost: set[str] = set()  # what was said of devices

    @property
    def computing(self) -> Executor:
        """Who computes on the task, for what no search asks for."""
        return self._computing

    @property
    def concurrency(self) -> int:
        return self._computing.concurrency

    @property
    def families(self) -> int:
        return self._computing.concurrency + self._beside

    async def prepare(self, known: KnownTask | None, only: Strategies, *, limit_s: float) -> Preparation:
        self._comparing.start()  # while the task is opened
        found: Preparation = await self._computing.call("prepare", known, only, limit_s=limit_s)
        return found

    async def other_reference(self, exporter: str, *, limit_s: float) -> ModelFile:
        file: ModelFile = await self._computing.call("other_reference", exporter, limit_s=limit_s)
        return file

    async def survey(self, only: Strategies, *, limit_s: float) -> Surveyed:
        found: Surveyed = await self._computing.call("survey", only, limit_s=limit_s)
        return found

    async def time_training(self, *, limit_s: float) -> Arithmetic:
        try:
            timed: Arithmetic = await self._computing.call("time_training", limit_s=limit_s)
        except WorkerDied as error:
            self._note(f"timing a training step: {error.reason}: trainings compute {PLAINLY}")
            return Arithmetic(device=capabilities().device)
        return timed

    def opened(self, prepared: Preparation, only: Strategies) -> None:
        self._computing.opened(prepared, only)

    async def train(self, request: TrainRequest, *, limit_s: float) -> TrainedWeights:
        began = self._clock()
        if request.arithmetic in self._crashing:
            request = replace(request, arithmetic=request.arithmetic.plainest)
        try:
            return await self._train(request, limit_s)
        except WorkerCrashed as error:
            crash = error
        plain = request.arithmetic.plainest
        how = "" if plain == request.arithmetic else f", {PLAINLY}"
        self._note(f"{crash.reason}: {request.recipe.techniques()} goes on in a new one{how}")
        again = replace(request, arithmetic=plain)
        if request.limit_s is not None:
            again = replace(again, limit_s=max(1.0, request.limit_s - (self._clock() - began)))
        weights = await self._train(again, limit_s)
        if plain != request.arithmetic and not crash.killed:
            self._keep_to(plain, request.arithmetic)
        return weights

    def _keep_to(self, plain: Arithmetic, crashing: Arithmetic) -> None:
        """What crashed in one arithmetic and not in the plainest was its fault."""
        if crashing not in self._crashing:
            self._crashing.add(crashing)
            self._note(f"from now on trainings compute {PLAINLY}")
            self._settled(plain)

    async def _train(self, request: TrainRequest, limit_s: float) -> TrainedWeights:
        weights: TrainedWeights = await self._computing.call("train", request, limit_s=limit_s)
        return weights

    async def make(self, request: MakeRequest, *, limit_s: float) -> Made:
        made: Made = await self._again(self._computing, "make", request, limit_s=limit_s)
        return made

    async def compare(self, request: CompareRequest, *, limit_s: float) -> TimingSession:
        call = partial(self._again, self._comparing, "compare", request, limit_s=limit_s)
        session: TimingSession = await self._once_it_answers(call)
        return session

    async def operators(self, file: Path, feeds: str, *, limit_s: float) -> Mapping[str, float]:
        call = partial(self._again, self._comparing, "operators", file, feeds, limit_s=limit_s)
        found: Mapping[str, float] = await self._once_it_answers(call)
        return found

    async def memory(self, file: Path, feeds: str, *, limit_s: float) -> int:
        call = partial(self._again, self._comparing, "memory", file, feeds, limit_s=limit_s)
        found: int = await self._once_it_answers(call)
        return found

    async def score(
        self, files: Sequence[ModelFile], sample: Sample | None = None, *, limit_s: float
    ) -> tuple[Scored | NotScored, ...]:
        call = self._again(self._computing, "score", files, sample, limit_s=limit_s)
        scored: tuple[Scored | NotScored, ...] = await call
        return scored

    async def test(self, files: Sequence[ModelFile], *, limit_s: float) -> list[float]:
        scores: list[float] = await self._again(self._computing, "test", files, limit_s=limit_s)
        return scores

    async def differences(self, best: str, others: Sequence[str], *, limit_s: float) -> list[tuple[float, float]]:
        call = self._again(self._computing, "differences", best, others, limit_s=limit_s)
        found: list[tuple[float, float]] = await call
        return found

    async def by_class(self, reference: str, own: str, *, limit_s: float) -> GroupLosses | None:
        call = self._again(self._computing, "by_class", reference, own, limit_s=limit_s)
        found: GroupLosses | None = await call
        return found

    async def changed_examples(
        self, file: ModelFile, reference: str, own: str, *, seconds: float, again: int, limit_s: float
    ) -> ChangedExamples | None:
        call = self._again(self._computing, "changed_examples", file, reference, own, seconds, again, limit_s=limit_s)
        found: ChangedExamples | None = await call
        return found

    async def chance(self, outputs: str, *, limit_s: float) -> Chance | None:
        found: Chance | None = await self._again(self._computing, "chance", outputs, limit_s=limit_s)
        return found

    async def run_on_device(self, file: ModelFile, reference: str, *, limit_s: float) -> OnDevice:
        call = partial(self._again, self._computing, "run_on_device", file, reference, limit_s=limit_s)
        found: OnDevice = await self._once_it_answers(call)
        return found

    async def _once_it_answers(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """A call that a device elsewhere may be lost in: made again until it answers. Raises DeviceLost when that takes
        too long.
        """
        lost_s: float | None = None
        while True:
            try:
                found = await call()
                self._lost.clear()
                return found
            except DeviceLost as error:
                lost_s = self._clock() if lost_s is None else lost_s
                if str(error) not in self._lost:
                    self._lost.add(str(error))
                    self._note(f"{error}: waiting for it")
                if self._clock() - lost_s > DEVICE_PATIENCE_S:
                    raise DeviceLost(
                        f"{error}: waited for it for {DEVICE_PATIENCE_S:.0f} s; what is finished is kept, the same "
                        "command goes on"
                    ) from error
            with waiting():
                await sleep(ASK_AGAIN_S)

    async def _again(self, executor: Executor, method: str, *args: Any, limit_s: float) -> Any:
        """A call, once more when the process that computes crashes: somebody else may have ended it."""
        try:
            return await executor.call(method, *args, limit_s=limit_s)
        except WorkerCrashed as error:
            self._note(f"{error.reason}: tried once more in a new one")
        return await executor.call(method, *args, limit_s=limit_s)

    @contextmanager
    def sharing(self, calls: int) -> Iterator[None]:
        with self._computing.sharing(calls):
            yield

    def spent(self) -> dict[str, float]:
        return dict(Counter(self._computing.spent()) + Counter(self._comparing.spent()))

    def kill(self) -> None:
        """End all workers at once; calls that wait for them fail."""
        for executor in (self._computing, self._comparing):
            executor.kill()

    def close(self) -> None:
        with ExitStack() as closing:
            for executor in (self._computing, self._comparing):
                closing.callback(executor.close)

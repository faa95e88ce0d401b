"""What a search may ask for: a call whose process somebody ended is tried once more, whatever it is."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.request import FamilyFiles, ModelFile, TrainedWeights, TrainRequest, UntrainedFiles
from autocompress.compute import operations
from autocompress.compute.operations import WorkerOperations
from autocompress.compute.processes import worker_processes
from autocompress.compute.worker import WorkerConfig, WorkerCrashed, WorkerDied
from autocompress.measure import CompareRequest, DeviceLost, target
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe

Asked = Callable[[WorkerOperations], Awaitable[Any]]


class Dying:
    """An executor whose process ends at its first calls; it answers with the method's name."""

    concurrency = 1

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked: list[Any] = []
        self.limits: list[float | None] = []

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> str:
        self.asked += args
        self.limits.append(limit_s)
        if self.errors:
            raise self.errors.pop(0)
        return method


OPERATIONS: dict[str, Asked] = {
    "train": lambda on: on.train(TrainRequest(Recipe(), Arithmetic()), limit_s=9),
    "make": lambda on: on.make(FamilyFiles(TrainedWeights(Recipe(), ()), 0, "torchscript"), limit_s=9),
    "make of a structure": lambda on: on.make(UntrainedFiles(Recipe(), "torchscript"), limit_s=9),
    "compare": lambda on: on.compare(CompareRequest(Path("a"), Path("b"), "feeds"), limit_s=9),
    "score": lambda on: on.score([], limit_s=9),
    "test": lambda on: on.test([], limit_s=9),
    "differences": lambda on: on.differences("a", [], limit_s=9),
    "by_class": lambda on: on.by_class("a", "b", limit_s=9),
    "changed_examples": lambda on: on.changed_examples(
        ModelFile(Recipe(), "a", "b", "c"), "a", "b", seconds=1.0, again=2, limit_s=9
    ),
}


def answered(asked: Asked, *errors: Exception) -> Any:
    executor: Any = Dying(*errors)

    async def ask() -> Any:
        return await asked(WorkerOperations(executor, executor, lambda: 0.0))

    return asyncio.run(ask())


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_a_signal_ended_is_tried_once_more(name: str) -> None:
    assert answered(OPERATIONS[name], WorkerCrashed("SIGKILL")) == name.split()[0]
    with pytest.raises(WorkerCrashed, match="second"):
        answered(OPERATIONS[name], WorkerCrashed("first"), WorkerCrashed("second"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_ran_over_its_time_is_not(name: str) -> None:
    with pytest.raises(WorkerDied, match="late"):
        answered(OPERATIONS[name], WorkerDied("late"))


FAST = Arithmetic(bfloat16=True, channels_last=True, device="cuda")
PLAIN = Arithmetic(device="cuda")


@dataclass
class Trainings:
    """Trainings in the fast arithmetic, on a worker that ends at its first calls. kept: what was settled on."""

    dying: Dying
    noted: list[str] = field(default_factory=list)
    kept: list[Arithmetic] = field(default_factory=list)

    def __post_init__(self) -> None:
        executor: Any = self.dying
        self.operations = WorkerOperations(executor, executor, lambda: 0.0, self.noted.append, self.kept.append)

    def train(self) -> None:
        asyncio.run(self.operations.train(TrainRequest(Recipe(), FAST), limit_s=9))

    @property
    def computed(self) -> list[Arithmetic]:
        return [request.arithmetic for request in self.dying.asked]


def test_a_training_that_crashed_is_tried_again_in_the_plainest_arithmetic_and_so_are_those_after_it() -> None:
    on = Trainings(Dying(WorkerCrashed("SIGSEGV")))
    on.train()
    assert on.computed == [FAST, PLAIN]
    on.train()
    assert on.computed == [FAST, PLAIN, PLAIN]
    assert on.kept == [PLAIN], "it is remembered once"
    assert on.noted[0].endswith("goes on in a new one, in float32 and the default memory layout")
    assert on.noted[1:] == ["from now on trainings compute in float32 and the default memory layout"]


@pytest.mark.parametrize(
    "errors",
    [[WorkerCrashed("SIGKILL", killed=True)], [WorkerCrashed("SIGSEGV"), WorkerCrashed("SIGSEGV")]],
    ids=["somebody ended it", "the plainest crashes too"],
)
def test_where_the_arithmetic_was_not_to_blame_later_trainings_keep_it(errors: list[Exception]) -> None:
    on = Trainings(Dying(*errors))
    with suppress(WorkerCrashed):
        on.train()
    on.train()
    assert on.computed == [FAST, PLAIN, FAST]
    assert on.kept == []


@pytest.mark.parametrize("error", [WorkerCrashed("SIGSEGV"), WorkerDied("no answer within 30 s")])
def test_where_timing_a_step_ends_the_worker_trainings_are_plain_and_the_search_goes_on(error: WorkerDied) -> None:
    on = Trainings(Dying(error))
    found = asyncio.run(on.operations.time_training(limit_s=30.0))
    assert found.plainest == found
    assert on.noted == [
        f"timing a training step: {error.reason}: trainings compute in float32 and the default memory layout"
    ]
    assert on.dying.limits == [30.0]


def lost_at_first(times: int, waits_s: float, monkeypatch: pytest.MonkeyPatch) -> tuple[Dying, list[str], Any]:
    """A comparison by a device that does not answer so many times, and each time it waits so long by its clock."""
    now, noted = [0.0], list[str]()

    async def wait(seconds: float) -> None:
        now[0] += waits_s

    monkeypatch.setattr(operations, "sleep", wait)
    dying: Any = Dying(*(DeviceLost("the board does not answer") for _ in range(times)))
    on = WorkerOperations(dying, dying, lambda: now[0], noted.append, beside=2)
    return dying, noted, on


def test_a_device_that_does_not_answer_is_waited_for_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    dying, noted, on = lost_at_first(5, 10.0, monkeypatch)
    assert asyncio.run(OPERATIONS["compare"](on)) == "compare"
    assert len(dying.asked) == 6
    assert noted == ["the board does not answer: waiting for it"], "said once"


def test_one_that_stays_away_ends_the_search_with_all_that_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, on = lost_at_first(1000, 100.0, monkeypatch)
    with pytest.raises(DeviceLost, match="the same command goes on"):
        asyncio.run(OPERATIONS["compare"](on))


def test_more_candidates_are_under_way_where_files_are_timed_beside_what_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One beside what computes here, two for each device elsewhere: while it times one the next one waits for it."""
    monkeypatch.setattr(target, "cores", lambda: 2)

    def families(**profile: Any) -> int:
        config = WorkerConfig("task.py:task", HardwareProfile(name="target", **profile), tmp_path, seed=0, workers=2)
        log = tmp_path / "worker.log"
        return worker_processes(config, log, print, lambda: False, print, lambda: 0.0, print).families

    (tmp_path / "token").write_text("token")
    token = {"token_file": str(tmp_path / "token")}
    assert families() == 3
    assert families(threads=2) == 2
    assert families(device="http://127.0.0.1:1", **token) == 4
    assert families(device=["http://127.0.0.1:1", "http://127.0.0.1:2"], **token) == 6

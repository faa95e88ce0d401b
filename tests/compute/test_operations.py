"""What a search may ask for: a call whose process somebody ended is tried once more, whatever it is."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.request import FamilyFiles, TrainedWeights, TrainRequest, UntrainedFiles
from autocompress.compute.operations import WorkerOperations
from autocompress.compute.worker import WorkerCrashed, WorkerDied
from autocompress.measure import CompareRequest
from autocompress.recipe import Recipe

Asked = Callable[[WorkerOperations], Awaitable[Any]]


class Dying:
    """An executor whose process ends at its first calls; it answers with the method's name."""

    concurrency = 1

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> str:
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

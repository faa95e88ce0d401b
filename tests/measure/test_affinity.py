"""While files are timed, threads that compute a call together have a processor each; afterwards all is as it was."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocompress.errors import CandidateFailed
from autocompress.machine import processors
from autocompress.machine.blocks import BlockLimits
from autocompress.measure import Sessions
from autocompress.measure.operators import operators_of
from autocompress.plugin.contract import Feed, OperatorTime, Runtime, Session
from autocompress.profile import HardwareProfile

from .simulated import Called

TWO = HardwareProfile(name="two", runtime="placed", threads=2)
LIMITS = BlockLimits(quiet=1, seconds=0.0, fewest=1)
FEEDS: list[Feed] = [{"x": np.ones(1)}]
Where = tuple[Any, set[int]]  # the pool's processors, as a file was opened with them, and those of the calling thread


class Placed(Runtime):
    """Notes of each call where its threads are; places its own by the option ``on``, where it can."""

    name = "placed"

    def __init__(self, *, can: bool = True, fails: bool = False) -> None:
        self.calls: list[Where] = []
        self._can, self._fails = can, fails

    def affinity(self, profile: HardwareProfile, processors: Sequence[int]) -> Mapping[str, str]:
        return {"on": ",".join(map(str, processors))} if self._can else {}

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return Called(lambda: self._called(profile))

    def operators(self, path: Path, profile: HardwareProfile, feeds: Sequence[Feed]) -> Sequence[OperatorTime]:
        self._called(profile)
        return [OperatorTime("a", "MatMul", 1.0, 1.0)]

    def _called(self, profile: HardwareProfile) -> None:
        self.calls.append((profile.options.get("on"), set(os.sched_getaffinity(0))))
        if self._fails:
            raise RuntimeError("this file does not run")


@pytest.fixture(autouse=True)
def thread(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """The processors that this thread may run on."""
    may = {"on": {2, 5, 7}}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: may["on"], raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: may.update(on=set(cpus)), raising=False)
    monkeypatch.setattr(processors, "_running_on", lambda: 5)
    return may


def timed(runtime: Runtime, profile: HardwareProfile, folder: Path) -> None:
    Sessions(runtime, profile, folder / "reference.onnx", FEEDS).record(folder / "candidate.onnx", LIMITS)


def test_each_thread_has_a_processor_of_its_own_while_files_are_timed(tmp_path: Path, thread: dict[str, set[int]]):
    runtime = Placed()
    timed(runtime, TWO, tmp_path)
    assert set(map(repr, runtime.calls)) == {repr(("7", {5}))}, "in both files, in each call"
    assert thread["on"] == {2, 5, 7}
    timed(runtime, TWO.model_copy(update={"threads": 3, "options": {"other": 1}}), tmp_path)
    assert runtime.calls[-1] == ("7,2", {5})


def test_so_it_is_while_its_operators_are(tmp_path: Path, thread: dict[str, set[int]]):
    runtime = Placed()
    operators_of(runtime, TWO, tmp_path / "candidate.onnx", FEEDS)
    assert runtime.calls == [("7", {5})]
    assert thread["on"] == {2, 5, 7}


def test_a_file_that_fails_leaves_the_thread_where_it_might_run(tmp_path: Path, thread: dict[str, set[int]]):
    with pytest.raises(CandidateFailed, match="this file does not run"):
        timed(Placed(fails=True), TWO, tmp_path)
    assert thread["on"] == {2, 5, 7}


@pytest.mark.parametrize(
    "changed",
    [{"threads": 1}, {"threads": 4}, {"streams": 2}, {"provider": "CUDAExecutionProvider"}],
    ids=["one thread", "more than processors", "several callers", "a GPU"],
)
def test_other_profiles_are_left_to_the_system(tmp_path: Path, changed: dict[str, Any]):
    runtime = Placed()
    operators_of(runtime, TWO.model_copy(update=changed), tmp_path / "candidate.onnx", FEEDS)
    assert runtime.calls == [(None, {2, 5, 7})]


def test_with_one_processor_and_with_a_runtime_that_cannot_place_its_threads_all_are_left_to_the_system(
    tmp_path: Path, thread: dict[str, set[int]]
):
    runtime = Placed(can=False)
    timed(runtime, TWO, tmp_path)
    assert set(map(repr, runtime.calls)) == {repr((None, {2, 5, 7}))}
    thread["on"], runtime = {5}, Placed()
    timed(runtime, TWO, tmp_path)
    assert set(map(repr, runtime.calls)) == {repr((None, {5}))}

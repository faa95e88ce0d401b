"""What runs in a child process of an agent, run here."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autocompress_agent import jobs
from autocompress_agent.machine import processors, waiting
from autocompress_agent.machine.onnx_session import AFFINITIES, session_options

from .test_server import HOW, inputs, product

LIMITS = {"quiet": 1, "seconds": 0.0, "fewest": 1, "known_ms": None}
TWO = {**HOW, "threads": 2, "weights": [1]}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, set[int]]]:
    """Of each file that was opened, where the threads of its pool were placed, counted from 1, and where the calling
    one was; it may run on three processors.
    """
    found: list[tuple[str, set[int]]] = []
    may = {"on": {2, 5, 7}}

    def noted(threads: int, options: Mapping[str, Any]) -> Any:
        found.append((options.get(AFFINITIES, ""), may["on"]))
        return session_options(threads, {})

    monkeypatch.chdir(tmp_path)  # a job has a folder of its own
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: may["on"], raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: may.update(on=set(cpus)), raising=False)
    monkeypatch.setattr(processors, "_running_on", lambda: 5)
    monkeypatch.setattr(jobs, "session_options", noted)
    return found


def test_each_thread_has_a_processor_of_its_own_while_files_are_timed(opened: list[Any], tmp_path: Path) -> None:
    file, given = product(tmp_path / "m.onnx"), tmp_path / "inputs.npz"
    given.write_bytes(inputs())
    jobs.compare(file, file, given, TWO, LIMITS)
    assert opened == [("8", {5}), ("8", {5})]
    jobs.memory(file, given, TWO)
    assert opened[-1] == ("", {2, 5, 7}), "afterwards all is as it was, and what is not timed is left to the system"


def test_more_threads_than_processors_are_left_to_the_system(opened: list[Any], tmp_path: Path) -> None:
    file, given = product(tmp_path / "m.onnx"), tmp_path / "inputs.npz"
    given.write_bytes(inputs())
    jobs.compare(file, file, given, {**TWO, "threads": 4}, LIMITS)
    assert opened == [("", {2, 5, 7})] * 2


@pytest.mark.parametrize(
    ("changed", "known_ms", "ms"),
    [
        ({}, 0.0, 10),
        ({"cold": True}, 0.0, 10),
        ({"weights": [1, 1]}, 0.0, 10),
        ({}, None, 13),
        ({"provider": "CUDAExecutionProvider"}, 0.0, 13),
    ],
    ids=["as a rule", "cold", "two shapes", "every moment counts", "a GPU"],
)
def test_calls_are_timed_without_what_they_waited_for_a_processor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, Any], known_ms: float | None, ms: float
) -> None:
    """Of 10 ms each, and interrupted for 3, as is what empties the caches before."""
    now = {"ms": 0.0, "waits": 0}

    def takes(ms: float) -> None:
        now.update(ms=now["ms"] + ms + 3, waits=now["waits"] + 1)

    (tmp_path / "told").write_text("0 0 0")
    monkeypatch.setattr(waiting, "SCHEDULER", tmp_path / "told")
    monkeypatch.setattr(os, "pread", lambda *_: f"0 {3_000_000 * now['waits']} {now['waits']}".encode())
    monkeypatch.setattr(time, "perf_counter", lambda: now["ms"] / 1e3)
    monkeypatch.setattr(jobs, "eviction", lambda: lambda: takes(0))
    monkeypatch.setattr(jobs, "bound_call", lambda session, feed: lambda: takes(10))
    monkeypatch.setattr(jobs, "_opened", lambda path, how: None)
    monkeypatch.setattr(jobs, "_called", lambda session, feed: [])
    monkeypatch.setattr(jobs, "read_feeds", lambda path: [{}, {}])
    monkeypatch.setattr(jobs, "warm_up", lambda call: None)
    monkeypatch.setattr(jobs, "gpu_throttled", lambda call: None)
    file, limits = tmp_path / "m.onnx", {**LIMITS, "known_ms": known_ms}
    said = jobs.compare(file, file, file, {**HOW, "weights": [1], **changed}, limits)
    assert [ms for block in said["blocks"]["candidate"] for ms in block] == pytest.approx([ms])

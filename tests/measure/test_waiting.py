"""What a session says of a file whose calls wait for a processor, by a clock and a scheduler of its own."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocompress.machine import waiting
from autocompress.machine.blocks import BlockLimits
from autocompress.measure import Sessions, here
from autocompress.plugin.contract import Feed, Runtime, Session
from autocompress.profile import HardwareProfile

from .simulated import Called

LIMITS = BlockLimits(quiet=3, seconds=0.0, fewest=3)
FEEDS: list[Feed] = [{"x": np.ones(1)}, {"x": np.ones(2)}]
WAIT_MS, CALL_MS = 3.0, 10.0
SHAPES = [{"length": 8, "weight": 1}, {"length": 16, "weight": 1}]


class Machine:
    """Its clock in milliseconds, and how often this thread waited so far."""

    now_ms, waits = 0.0, 0

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()

    def wait(self, computed_ms: float = 0.0) -> None:
        with self._one_at_a_time:
            self.now_ms += computed_ms + WAIT_MS
            self.waits += 1


class Interrupted(Runtime):
    """Each call takes ten milliseconds and is interrupted once."""

    name = "interrupted"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return Called(self._call)

    def _call(self) -> None:
        self._machine.wait(CALL_MS)


class Clocked(Interrupted):
    """By the clock of a device elsewhere, while this thread waits."""

    def clock(self, session: Session, feed: Feed) -> float | None:
        self._call()
        return CALL_MS


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    found = Machine()
    (tmp_path / "told").write_text("0 0 0")
    monkeypatch.setattr(waiting, "SCHEDULER", tmp_path / "told")
    monkeypatch.setattr(os, "pread", lambda *_: f"0 {round(found.waits * WAIT_MS * 1e6)} {found.waits}".encode())
    monkeypatch.setattr(time, "perf_counter", lambda: found.now_ms / 1e3)
    monkeypatch.setattr(here, "eviction", lambda: found.wait)  # interrupted too
    return found


def took(runtime: Runtime, profile: Mapping[str, Any], folder: Path) -> Sequence[float]:
    """The milliseconds that a session says of each call."""
    asked = HardwareProfile(name="asked", runtime=runtime.name, **profile)
    sessions = Sessions(runtime, asked, folder / "reference.onnx", FEEDS)
    _, recorded = sessions.record(folder / "candidate.onnx", LIMITS)
    return np.concatenate(recorded.candidate).tolist()


@pytest.mark.parametrize("profile", [{}, {"cold": True}, {"shapes": SHAPES}], ids=["as a rule", "cold", "two shapes"])
def test_what_calls_wait_is_no_part_of_them_whatever_lies_between(
    machine: Machine, profile: dict[str, Any], tmp_path: Path
):
    assert took(Interrupted(machine), profile, tmp_path) == pytest.approx([CALL_MS] * 3)


@pytest.mark.parametrize(
    "profile",
    [{"machine": "as it is"}, {"provider": "CUDAExecutionProvider"}, {"streams": 2}, {"threads": 2}],
    ids=["every moment counts", "a GPU computes meanwhile", "others wait than the one that asks", "others go on"],
)
def test_it_is_where_it_belongs_to_the_time_or_adds_nothing(
    machine: Machine, profile: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(here, "warm_up", lambda call: None)
    monkeypatch.setattr(here, "gpu_throttled", lambda call: None)
    assert min(took(Interrupted(machine), profile, tmp_path)) >= CALL_MS + WAIT_MS - 1e-6


def test_what_a_device_says_by_its_own_clock_is_left_as_it_is(machine: Machine, tmp_path: Path):
    assert took(Clocked(machine), {}, tmp_path) == pytest.approx([CALL_MS] * 3)

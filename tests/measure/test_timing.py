"""One call of a model, timed: by the runtime's own clock when it has one, else by ours."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from autocompress.measure.timing import timed_call
from autocompress.plugin.contract import Array, Feed, Runtime, Session
from autocompress.profile import HardwareProfile


class Recorder(Session):
    """Notes what it is fed."""

    def __init__(self, ran: Callable[[], None] = lambda: None) -> None:
        self.ran = ran
        self.fed: list[float] = []

    @property
    def input_names(self) -> Sequence[str]:
        return ("x",)

    def run(self, feed: Feed) -> Sequence[Array]:
        self.fed.append(float(feed["x"]))
        self.ran()
        return []


class Clocked(Runtime):
    """Says how long a call takes without running it, or nothing."""

    name = "clocked"

    def __init__(self, own_ms: float | None) -> None:
        self.own_ms = own_ms
        self.asked: list[float] = []

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return Recorder()

    def clock(self, session: Session, feed: Feed) -> float | None:
        self.asked.append(float(feed["x"]))
        return self.own_ms


FEEDS: list[Feed] = [{"x": np.array(float(number))} for number in range(3)]


def test_a_runtime_that_has_a_clock_is_believed_and_nothing_is_run():
    session = Recorder()
    assert timed_call(Clocked(7.5), session, FEEDS)() == 7.5
    assert session.fed == []


def test_a_call_is_timed_in_milliseconds(monkeypatch: pytest.MonkeyPatch):
    now = [3.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def ran() -> None:
        now[0] += 0.005

    assert timed_call(Clocked(None), Recorder(ran), FEEDS)() == pytest.approx(5.0)


@pytest.mark.parametrize("own_ms", [None, 1.0])
def test_feeds_are_taken_in_turn(own_ms: float | None):
    runtime, session = Clocked(own_ms), Recorder()
    call = timed_call(runtime, session, FEEDS)
    for _ in range(7):
        call()
    assert runtime.asked == [0, 1, 2, 0, 1, 2, 0]
    assert session.fed == ([] if own_ms else runtime.asked)

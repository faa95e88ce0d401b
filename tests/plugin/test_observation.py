"""Observers are told on threads of their own: none of them can stop, change or hold up what it is told of."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from autocompress.plugin import observation
from autocompress.plugin.contract import Observer, SearchEvent, SearchStarted
from autocompress.plugin.observation import Observation


class Remembering(Observer):
    name = "remembering"

    def __init__(self) -> None:
        self.told: list[Any] = []

    def observe(self, event: SearchEvent) -> None:
        self.told.append(event)


class Raising(Remembering):
    name = "raising"

    def observe(self, event: SearchEvent) -> None:
        super().observe(event)
        raise RuntimeError("the server is\ngone")


class Waiting(Remembering):
    """For ``go``."""

    name = "waiting"

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def observe(self, event: SearchEvent) -> None:
        self.go.wait()
        super().observe(event)


Observed = Callable[..., list[str]]


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def event(tmp_path: Any) -> SearchStarted:
    return SearchStarted(0.0, "my_task.py", tmp_path, "cpu", {"speedup": 3}, {"seed": 0})


def test_one_that_raises_is_told_of_once_and_the_others_go_on(notes: list[str], event: SearchStarted) -> None:
    raising, other = Raising(), Remembering()
    observed = Observation([raising, other], notes.append)
    for _ in range(3):
        observed.tell(event)
    observed.close()
    assert notes == [
        "the observer raising failed and is told nothing more (RuntimeError: the server is gone); the search goes on"
    ]
    assert raising.told == [event]
    assert other.told == [event] * 3


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_not_even_one_that_exits_ends_the_search(error: BaseException, notes: list[str], event: SearchStarted) -> None:
    class Exiting(Remembering):
        name = "exiting"

        def observe(self, event: SearchEvent) -> None:
            raise error

    observed = Observation([Exiting()], notes.append)
    observed.tell(event)
    observed.close()
    assert len(notes) == 1
    assert "the observer exiting failed" in notes[0]


def test_nobody_waits_for_a_slow_one_but_the_end(notes: list[str], event: SearchStarted) -> None:
    slow, other = Waiting(), Remembering()
    observed = Observation([slow, other], notes.append)
    for _ in range(100):
        observed.tell(event)
    assert slow.told == [], "telling returned before the first one was taken in"
    slow.go.set()
    observed.close()
    assert len(slow.told) == len(other.told) == 100
    assert notes == []


def test_one_that_hangs_is_left_after_a_while_which_is_said(
    notes: list[str], event: SearchStarted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation, "SOON_S", 0.01)
    monkeypatch.setattr(observation, "LONGEST_WAIT_S", 0.01)
    hanging = Waiting()
    observed = Observation([hanging], notes.append)
    observed.tell(event)
    observed.close()
    hanging.go.set()
    assert notes == [
        "waiting for the observers that still write: waiting",
        "the observer waiting is not waited for any longer: what it writes may be incomplete",
    ]


def test_what_one_changes_of_an_event_nobody_else_sees(notes: list[str], event: SearchStarted) -> None:
    class Changing(Remembering):
        name = "changing"

        def observe(self, event: Any) -> None:
            event.budget["speedup"] = 100

    other = Remembering()
    observed = Observation([Changing(), other], notes.append)
    observed.tell(event)
    observed.close()
    assert event.budget == {"speedup": 3}
    assert other.told[0].budget == {"speedup": 3}

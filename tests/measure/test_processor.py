"""The processor a measurement is pinned to."""

import os

import pytest

from autocompress.measure.processor import pinned_to_fastest


class Machine:
    """Four processors, of which each takes its own time; this thread may run on all but the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pinned = {1, 2, 3}
        self.tried: list[set[int]] = []
        monkeypatch.setattr(os, "sched_getaffinity", lambda thread: set(self.pinned), raising=False)
        monkeypatch.setattr(os, "sched_setaffinity", self._set, raising=False)

    def _set(self, thread: int, processors: set[int]) -> None:
        self.pinned = set(processors)

    def seconds(self) -> float:
        self.tried.append(self.pinned)
        return {0: 0.1, 1: 3.0, 2: 1.0, 3: 2.0}[next(iter(self.pinned))]


def test_the_thread_runs_where_the_work_is_done_fastest_and_goes_back(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch)
    with pinned_to_fastest(machine.seconds, tries=8):
        assert machine.pinned == {2}
    assert machine.tried == [{1}, {2}, {3}]
    assert machine.pinned == {1, 2, 3}


def test_it_goes_back_when_the_work_fails(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch)
    with pytest.raises(ZeroDivisionError), pinned_to_fastest(lambda: 1 / 0, tries=8):
        pass
    assert machine.pinned == {1, 2, 3}


@pytest.mark.parametrize("tries", [0, 1])
def test_without_time_to_try_nothing_is_pinned(tries: int, monkeypatch: pytest.MonkeyPatch):
    machine = Machine(monkeypatch)
    with pinned_to_fastest(machine.seconds, tries):
        assert machine.pinned == {1, 2, 3}
    assert machine.tried == []


def test_where_threads_cannot_be_pinned_the_work_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with pinned_to_fastest(lambda: 1.0, tries=8):
        pass

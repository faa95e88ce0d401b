"""Every second is counted once, for the innermost phase; and what happens at a safe point."""

import pytest

from autocompress.errors import Interrupted
from autocompress.supervisor import Phases, Supervisor


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def test_an_inner_phase_does_not_count_for_the_outer_one():
    clock = Clock()
    phases = Phases(clock)
    clock.now += 1
    with phases("train"):
        clock.now += 2
        with phases("wait"):
            clock.now += 4
        clock.now += 8
    assert phases.taken() == {"other": 1, "train": 10, "wait": 4}
    clock.now += 16
    assert phases.taken() == {"other": 16}


def test_a_phase_that_fails_is_counted_and_closed():
    clock = Clock()
    phases = Phases(clock)
    with pytest.raises(KeyError), phases("export"):
        raise KeyError(clock.pass_by(3))
    clock.now += 1
    assert phases.taken() == {"other": 1, "export": 3}


def test_skipped_time_is_nobodys():
    clock = Clock()
    phases = Phases(clock)
    clock.now += 50
    phases.skip()
    with phases("train"):
        clock.now += 1
    assert phases.taken() == {"other": 0, "train": 1}


def test_a_safe_point_follows_what_else_the_machine_does_unless_the_work_ends_there():
    followed: list[int] = []
    Supervisor(adapt=lambda: followed.append(1)).check()
    with pytest.raises(Interrupted):
        Supervisor(stop=lambda: True, adapt=lambda: followed.append(2)).check()
    assert followed == [1]

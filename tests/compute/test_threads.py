"""How many threads compute: fewer than are allowed where those get in each other's way."""

from collections import Counter
from collections.abc import Callable, Mapping

import pytest
import torch

from autocompress.compute.threads import EVERY_S, WORTH, Threads, layer_speed


class Machine:
    """How fast it computes with each number of threads is declared. used: the number that was told last."""

    def __init__(self, speeds: Mapping[int, float]) -> None:
        self.speeds, self.now = dict(speeds), 100.0
        self.timed: Counter[int] = Counter()
        self.used = 0
        self.timing = False
        self.threads = Threads(self._use, self._speed, lambda: self.now, lambda: self.timing)

    def _use(self, threads: int) -> None:
        self.used = threads

    def _speed(self, threads: int, most: int) -> float:
        self.timed[threads] += 1
        return self.speeds[threads]


def used(most: int, speeds: Mapping[int, float]) -> int:
    machine = Machine(speeds)
    machine.threads.allow(most)
    return machine.used


@pytest.mark.parametrize(
    ("most", "speeds", "fastest"),
    [
        (2, {2: 1.8, 1: 1.0}, 2),
        (2, {2: 0.5, 1: 1.0}, 1),
        (2, {2: 1.0, 1: 0.99 * WORTH}, 2),
        (16, {16: 2.0, 15: 9.0, 8: 6.0, 1: 1.0}, 15),
        (16, {16: 2.0, 15: 2.0, 8: 6.0, 1: 1.0}, 8),
        (3, {3: 1.0, 2: 3.0, 1: 2.0}, 2),
    ],
    ids=["left alone", "one core busy", "hardly faster with fewer", "one of many busy", "half busy", "three"],
)
def test_the_fastest_number_of_threads_computes(most: int, speeds: Mapping[int, float], fastest: int):
    assert used(most, speeds) == fastest


def test_one_thread_is_not_timed():
    machine = Machine({})
    machine.threads.allow(1)
    assert (machine.used, machine.timed.total()) == (1, 0)


@pytest.mark.parametrize("again", ["a call", "a safe point"])
def test_a_machine_that_becomes_busy_is_noticed_after_some_seconds(again: str):
    machine = Machine({2: 1.8, 1: 1.0})
    ask: Callable[[], None] = {"a call": lambda: machine.threads.allow(2), "a safe point": machine.threads.adapt}[again]
    machine.threads.allow(2)
    timed, machine.speeds[2] = machine.timed.total(), 0.5
    machine.now += EVERY_S - 0.1
    ask()
    assert (machine.used, machine.timed.total()) == (2, timed)
    machine.now += 0.2
    ask()
    assert machine.used == 1


def test_a_call_that_may_use_more_threads_is_timed_for_itself():
    machine = Machine({4: 3.0, 3: 2.5, 2: 1.0, 1: 1.5})
    machine.threads.allow(2)
    assert machine.used == 1
    machine.threads.allow(4)
    assert machine.used == 4
    machine.threads.allow(2)
    assert machine.used == 1


def test_the_speed_of_a_layer_is_of_the_threads_it_is_asked_for():
    before = torch.get_num_threads()
    try:
        assert layer_speed(1, 2, iter([0.0, 0.004, 0.015]).__next__) == pytest.approx(1 / 0.015)
        assert torch.get_num_threads() == 1
        torch.manual_seed(0)
        drawn = torch.rand(1)
        torch.manual_seed(0)
        layer_speed(1, 2)
        assert torch.rand(1) == drawn, "training draws the same, whatever was timed meanwhile"
    finally:
        torch.set_num_threads(before)


def test_while_files_are_timed_a_core_is_left_to_them():
    machine = Machine({2: 1.8, 1: 1.0})
    machine.threads.allow(2)
    asked = machine.timed.total()
    machine.timing, machine.now = True, machine.now + 2 * EVERY_S
    machine.threads.adapt()
    assert (machine.used, machine.timed.total()) == (1, asked), "and nothing else is timed"
    machine.timing = False
    machine.threads.adapt()
    assert machine.used == 2
    assert machine.timed.total() > asked

"""A session goes on elsewhere where it finds no quiet moment, and leaves everything as it was."""

import os
from typing import Any

import numpy as np
import pytest

from autocompress.machine import processors
from autocompress.machine.blocks import IN_VAIN, BlockLimits, record_blocks
from autocompress.machine.processors import stay, taking_turns


@pytest.fixture
def affinity(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """Where this thread was told to run, one after another; it may run on three processors."""
    told: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: told.append(set(cpus)), raising=False)
    monkeypatch.setattr(processors, "_running_on", lambda: 2)
    return told


def test_processors_are_taken_in_turn_and_all_given_back(affinity: list[set[int]]):
    with taking_turns(possible=True) as move:
        affinity.clear()
        for _ in range(4):
            move()
    assert affinity == [{5}, {7}, {2}, {5}, {2, 5, 7}], "it runs on 2"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not let a thread choose")
def test_it_is_known_where_a_thread_runs():
    allowed = os.sched_getaffinity(0)
    try:
        for processor in allowed:
            os.sched_setaffinity(0, {processor})
            assert processors._running_on() == processor
    finally:
        os.sched_setaffinity(0, allowed)


def test_what_computes_in_other_threads_is_left_where_it_is(affinity: list[set[int]]):
    with taking_turns(possible=False) as move:
        assert move is stay
    assert affinity == []


def test_where_a_thread_may_not_move_it_stays(affinity: list[set[int]], monkeypatch: pytest.MonkeyPatch):
    def forbidden(pid: int, cpus: Any) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    with taking_turns(possible=True) as move:
        assert move is stay


@pytest.mark.parametrize(("quiet", "moves"), [(True, 0), (False, 3)])
def test_a_session_moves_after_some_blocks_that_were_not_quiet(quiet: bool, moves: int):
    moved: list[int] = []
    blocks = record_blocks(
        lambda: 1.0,
        lambda: 1.0,
        lambda medians: len(medians) - 1 if quiet else 0,
        BlockLimits(quiet=100, seconds=0.0, fewest=3 * IN_VAIN + 1),
        move=lambda: moved.append(1),
    )
    assert len(blocks.candidate) == 3 * IN_VAIN + 1
    assert len(moved) == moves
    assert np.all(blocks.reference == 1.0)

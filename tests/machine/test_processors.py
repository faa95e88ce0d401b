"""A session goes on elsewhere where it finds no quiet moment, and leaves everything as it was."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocompress.machine import processors
from autocompress.machine.blocks import IN_VAIN, BlockLimits, record_blocks
from autocompress.machine.processors import own_processors, stay, staying_on, taking_turns


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


@pytest.mark.parametrize(("here", "own"), [(2, [2, 5]), (5, [5, 7]), (7, [7, 2])])
def test_threads_that_compute_together_have_a_processor_each_from_where_this_one_runs(
    affinity: list[set[int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, here: int, own: list[int]
):
    monkeypatch.setattr(processors, "_running_on", lambda: here)
    assert own_processors(2, tmp_path) == own


def test_they_have_cores_of_their_own_and_fast_ones_as_long_as_there_are_such(affinity: list[set[int]], tmp_path: Path):
    for processor, siblings, capacity in ((2, "2,5", 1024), (5, "2,5", 1024), (7, "7", 500)):
        about = tmp_path / f"devices/system/cpu/cpu{processor}"
        (about / "topology").mkdir(parents=True)
        (about / "topology/thread_siblings_list").write_text(f"{siblings}\n")
        (about / "cpu_capacity").write_text(f"{capacity}\n")
    assert own_processors(2, tmp_path) == [2, 7], "5 is the other half of 2's core"
    assert own_processors(3, tmp_path) == [2, 7, 5]
    (tmp_path / "devices/system/cpu/cpu5/topology/thread_siblings_list").write_text("5\n")
    assert own_processors(2, tmp_path) == [2, 5], "7 is a slow one"


@pytest.mark.parametrize("threads", [1, 4])
def test_a_single_thread_and_more_threads_than_processors_are_left_to_the_system(
    affinity: list[set[int]], threads: int
):
    assert not own_processors(threads)
    with staying_on(own_processors(threads)[:1]):
        pass
    assert affinity == []


def test_where_a_system_lets_no_thread_choose_all_are_left_to_it(
    affinity: list[set[int]], monkeypatch: pytest.MonkeyPatch
):
    def forbidden(pid: int, cpus: Any) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    assert not own_processors(2)
    with staying_on([5]):
        pass
    monkeypatch.delattr(os, "sched_setaffinity")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert not own_processors(2)


def test_a_thread_that_stayed_is_given_back_all_that_it_had_also_after_an_error(affinity: list[set[int]]):
    with pytest.raises(ValueError, match="a file"), staying_on([5]):
        raise ValueError("a file that does not run")
    assert affinity == [{5}, {2, 5, 7}]

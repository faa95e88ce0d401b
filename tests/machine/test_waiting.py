"""A block is timed without what its thread waited for a processor."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from autocompress.machine import waiting
from autocompress.machine.waiting import Waits, never_waited, waited_here, without_wait, without_waits

PATIENCE_S = 20.0


BEFORE = Waits(100.0, 50)


def after(waited: float, turns: int) -> Waits:
    return Waits(BEFORE.ms + waited, BEFORE.turns + turns)


@pytest.mark.parametrize(
    ("times", "waited", "turns", "left"),
    [
        ([5.0], 3.0, 1, [2.0]),
        ([2.0, 5.0], 3.0, 1, [2.0, 2.0]),
        ([4.0, 5.0], 6.0, 2, [1.5, 1.5]),
        ([1.0, 4.0, 1.0, 5.0], 7.0, 2, [1.0, 1.0, 1.0, 1.0]),
        ([1.0, 1.1, 4.1, 1.2], 3.0, 1, [1.0, 1.1, 1.1, 1.2]),
        ([1.0, 1.2], 0.0, 0, [1.0, 1.2]),
        ([1.0, 1.0], 0.5, 2, [0.75, 0.75]),
        ([0.1, 0.1], 3.0, 1, [0.1, 0.1]),
    ],
)
def test_what_was_waited_is_taken_off_the_longest_calls(
    times: list[float], waited: float, turns: int, left: list[float]
):
    assert without_waits(np.array(times), BEFORE, after(waited, turns)) == pytest.approx(left)


@pytest.mark.parametrize("waited", [1.0, 3.0], ids=["less than the calls took", "more than they took"])
def test_calls_before_which_the_thread_waited_take_no_less(waited: float):
    """Once, between two calls of a block, which took 0.1 ms each."""
    assert without_waits(np.full(20, 0.1), BEFORE, after(waited, 1)) == pytest.approx(0.1)


@pytest.mark.parametrize(("took", "waited", "left"), [(5.0, 3.0, 2.0), (5.0, 0.0, 5.0), (0.1, 3.0, 0.1)])
def test_so_it_is_off_one_call_and_none_takes_nothing(took: float, waited: float, left: float):
    assert without_wait(took, BEFORE, after(waited, 1)) == pytest.approx(left)


def test_a_system_that_does_not_tell_is_taken_as_one_that_never_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(waiting, "SCHEDULER", tmp_path / "nowhere")
    with waited_here(possible=True, one_by_one=True) as asked:
        assert asked == (never_waited, never_waited)
    (tmp_path / "empty").write_text("")
    monkeypatch.setattr(waiting, "SCHEDULER", tmp_path / "empty")
    with waited_here(possible=True, one_by_one=False) as asked:
        assert asked == (never_waited, never_waited)


def test_nothing_stays_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "told").write_text("5 7000000 2\n")
    monkeypatch.setattr(waiting, "SCHEDULER", tmp_path / "told")
    with waited_here(possible=True, one_by_one=True) as (of_call, of_block):
        assert (of_call(), of_block()) == (Waits(7.0, 2), Waits())
    with pytest.raises(ValueError, match="closed"):
        of_call()


def test_the_system_tells_a_thread_that_another_runs_on_its_processor():
    """Both on one processor: sooner or later this one waits."""
    with waited_here(possible=True, one_by_one=False) as (_, waited):
        if waited is never_waited:
            return
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(allowed)})
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            had, until = waited(), time.monotonic() + PATIENCE_S
            while waited() == had and time.monotonic() < until:
                pass
            assert waited() > had
        finally:
            other.kill()
            other.wait()
            os.sched_setaffinity(0, allowed)

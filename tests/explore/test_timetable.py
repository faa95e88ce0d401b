"""What there is time for: what is kept for the end is what the end will take."""

from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.explore import rungs
from autocompress.explore.clock import Clock
from autocompress.explore.finish import FINALISTS
from autocompress.explore.pace import Pace
from autocompress.explore.timetable import CLOSING_S, Timetable

LENGTHS = rungs.lengths(600, 50_000)


def timetable(*front_ms: float, lanes: int = 1, **others: Any) -> Timetable:
    """Of a search of 600 s whose reference takes 2 ms a call."""

    def file(ms: float) -> Any:
        return SimpleNamespace(latency=SimpleNamespace(p50=ms))

    opening = SimpleNamespace(reference=file(2.0), test_examples=1000, val_examples=500, applicable=())
    ledger: Any = SimpleNamespace(
        opening=opening,
        front=lambda: [file(ms) for ms in front_ms],
        files=len(front_ms),
        doubtful=list,
        steering=SimpleNamespace(bounded=False),
        finalists=lambda count, margin: [SimpleNamespace(train_s=0.0)] * count,
    )
    vars(ledger).update(others)
    clock = Clock(600.0)
    return Timetable(clock, Pace(clock), ledger, LENGTHS, batch=1, lanes=lanes)


def test_testing_takes_what_the_files_of_the_front_and_the_reference_take() -> None:
    assert timetable(0.5, 0.25).tested_s() == pytest.approx(2.75)


def test_what_is_kept_for_closing_leaves_time_to_measure_again() -> None:
    time = timetable(*[0.5] * 8)
    assert time.closing_s() >= CLOSING_S + time.tested_s() + 8 * time.effort_s()


def test_finalists_that_train_at_the_same_time_need_less_of_it() -> None:
    short = [SimpleNamespace(train_s=2 * LENGTHS[-1].seconds - 60.0)] * FINALISTS
    kept = [
        time.reserve_s() - time.closing_s()
        for time in (timetable(0.5, lanes=lanes, finalists=lambda count, margin: short) for lanes in (1, 2, 8))
    ]
    assert kept[1:] == pytest.approx([kept[0] / 2, kept[0] / FINALISTS])


def test_under_a_budget_one_finalist_has_all_the_cores() -> None:
    bounded = SimpleNamespace(bounded=True)
    contender = SimpleNamespace(within=True)
    kept = [
        timetable(0.5, lanes=lanes, steering=bounded, contending=lambda: [contender], standing=lambda family: family)
        for lanes in (1, 2)
    ]
    assert kept[0].reserve_s() == pytest.approx(kept[1].reserve_s(), abs=1.0)

"""Rungs get longer, once, when the first one says little of the last; the next process has them as they are."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.pipeline.scoring_speed import ScoringSpeed
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.progress import Progress
from autocompress.explore.schedule import rungs
from autocompress.explore.schedule.rung_lengths import kept_lengths, lengthen
from autocompress.explore.schedule.time_budget import TimeBudget

LENGTHS = rungs.lengths(600)
LONGER = tuple(length.times(3) for length in LENGTHS)


class MemoryRecord:
    path = Path("study.db")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = value


@pytest.mark.parametrize(
    ("trained_on", "correlation", "longer"),
    [(6, 0.49, True), (6, 0.51, False), (30, 0.49, True), (31, 0.49, False), (5, 0.49, False)],
)
def test_rungs_get_longer_while_the_first_says_little_of_the_last(
    trained_on: int, correlation: float, longer: bool
) -> None:
    def rank_correlation(least: int) -> float | None:
        return correlation if trained_on >= least else None

    standings: Any = SimpleNamespace(trained_on=range(trained_on), rank_correlation=rank_correlation)
    record, clock = MemoryRecord(), Clock(600.0)
    progress = Progress(record)
    own = kept_lengths(progress, LENGTHS)
    time = TimeBudget(clock, Durations(clock), standings, own, batch=1, concurrency=1, speed=ScoringSpeed())
    notes = [lengthen(time, standings, progress, SearchPolicy()) for _ in range(2)]
    assert [note is not None for note in notes] == [longer, False], "it happens once"
    wanted = LONGER if longer else tuple(LENGTHS)
    assert time.lengths == wanted
    assert tuple(kept_lengths(Progress(record), LENGTHS)) == wanted, "another process goes on with them"

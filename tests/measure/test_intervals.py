"""Intervals and answers are right as often as they say, however much sessions spread."""

import math

import numpy as np
import pytest

from autocompress.comparison import TimingSession
from autocompress.measure.intervals import LOOK_CONFIDENCE, of_the_mean, of_the_next, ratio_of, relation, spread_of

COMPARISONS = 2000
SPREADS = pytest.mark.parametrize("sd", [0.003, 0.01, 0.02, 0.04, 0.1])


def sessions_of(sd: float, count: int) -> np.ndarray:
    """Logarithms of sessions, a comparison a row. The truth is 0 everywhere."""
    return np.random.default_rng(1).normal(0, sd, (COMPARISONS, count))


def session(log_ratio: float, of_all: float | None = None, quiet: int = 20) -> TimingSession:
    everywhere = log_ratio if of_all is None else of_all
    return TimingSession(log_ratio, everywhere, 1.0, 1.0, 1.0, 1.0, quiet, 40)


@SPREADS
@pytest.mark.parametrize("count", [4, 8])
def test_intervals_hold_the_truth_and_the_next_session_as_often_as_they_say(sd: float, count: int):
    truths, nexts = [], []
    for row in sessions_of(sd, count + 1):
        low, high = of_the_mean(row[:-1])
        truths.append(low <= 0 <= high)
        low, high = of_the_next(row[:-1])
        nexts.append(low <= row[-1] <= high)
    assert np.mean(truths) >= 0.94
    assert np.mean(nexts) >= 0.94


def test_one_session_has_the_spread_that_is_assumed():
    assert (spread_of([0.3]).sd, spread_of([0.3]).df) == (0.02, 8)


def test_what_is_assumed_counts_until_the_sessions_own_spread_reaches_farther():
    close, wide = [0.001, -0.001] * 4, [0.1, -0.1] * 4
    assert 0.001 < spread_of(close).sd < 0.02
    assert (spread_of(wide).sd, spread_of(wide).df) == (pytest.approx(float(np.std(wide, ddof=1))), 7)


@pytest.mark.parametrize(
    ("log_ratio", "found"), [(0.0, "same"), (-0.2, "faster"), (0.2, "slower"), (-0.018, "undecided")]
)
def test_a_relation_is_what_the_whole_interval_says(log_ratio: float, found: str):
    estimate = ratio_of([session(log_ratio)] * 4)
    assert estimate.low < math.exp(log_ratio) < estimate.high
    assert estimate.next_low < estimate.low < estimate.high < estimate.next_high
    assert relation(estimate, 0.03) == found


@SPREADS
def test_identical_files_are_seldom_called_faster_or_slower(sd: float):
    """Two looks, of four sessions and of eight."""
    wrong = 0
    for values in sessions_of(sd, 8):
        for look in (4, 8):
            found = relation(ratio_of([session(value) for value in values[:look]], LOOK_CONFIDENCE), 0.03)
            if found != "undecided":
                break
        wrong += found in ("faster", "slower")
    assert wrong <= 0.055 * COMPARISONS


def test_what_a_busy_machine_makes_of_a_file_is_told_beside():
    estimate = ratio_of([session(math.log(0.2), math.log(0.26)), session(math.log(0.2), math.log(0.26), 3)])
    assert estimate.ratio == pytest.approx(0.2)
    assert estimate.ratio_of_all == pytest.approx(0.26)
    assert (estimate.sessions, estimate.busy) == (2, 1)

"""Intervals and verdicts are right as often as they say."""

import math

import numpy as np
import pytest

from autocompress.comparison import TimingSession
from autocompress.measure.intervals import Spread, of_the_mean, of_the_next, own_or_pooled, pooled, ratio_of, relation

SEARCHES = 2000
GRAPHS = 12


def searches(sd: float, sessions: int) -> np.ndarray:
    """Logarithms of sessions: a search, a graph, a session. The truth is 0 everywhere."""
    return np.random.default_rng(1).normal(0, sd, (SEARCHES, GRAPHS, sessions))


def session(log_ratio: float, of_all: float | None = None, quiet: int = 20) -> TimingSession:
    everywhere = log_ratio if of_all is None else of_all
    return TimingSession(log_ratio, everywhere, 1.0, 1.0, 1.0, 1.0, quiet, 40)


@pytest.mark.parametrize(("sd", "least"), [(0.005, 0.98), (0.02, 0.94), (0.03, 0.92)], ids=lambda value: f"{value:g}")
@pytest.mark.parametrize("sessions", [2, 4])
def test_intervals_hold_the_truth_and_the_next_session_as_often_as_they_say(sd: float, least: float, sessions: int):
    """Where sessions spread wider than is assumed of them, what is assumed still counts a little."""
    truths, nexts = [], []
    for graphs in searches(sd, sessions + 1):
        known, following = graphs[:, :-1], graphs[:, -1]
        spread = pooled(list(known))
        low, high = of_the_mean(known[0], spread)
        truths.append(low <= 0 <= high)
        low, high = of_the_next(known[0], spread)
        nexts.append(low <= following[0] <= high)
    assert np.mean(truths) >= least
    assert np.mean(nexts) >= least


@pytest.mark.parametrize(("sd", "least"), [(0.005, 0.99), (0.02, 0.94), (0.03, 0.86)])
def test_one_session_has_an_interval_from_what_is_assumed(sd: float, least: float):
    held = [low <= 0 <= high for graphs in searches(sd, 1) for low, high in [of_the_mean(graphs[0], pooled(graphs))]]
    assert np.mean(held) >= least


def test_a_graph_whose_sessions_spread_clearly_wider_has_an_interval_of_its_own():
    wide, held = np.random.default_rng(2), []
    for graphs in searches(0.01, 5):
        own = wide.normal(0, 0.1, 5)
        low, high = of_the_mean(own, own_or_pooled(own, pooled(list(graphs))))
        held.append(low <= 0 <= high)
    assert np.mean(held) >= 0.93
    shared = Spread(0.01, 40)
    assert own_or_pooled([0.0, 0.01, -0.01], shared) == shared
    assert own_or_pooled([0.3], shared) == shared


def test_what_is_assumed_counts_less_the_more_sessions_there_are():
    graphs = np.random.default_rng(3).normal(0, 0.005, (200, 4))
    assert pooled([]).sd == pytest.approx(0.02)
    assert pooled(list(graphs)).sd == pytest.approx(0.005, rel=0.15)
    assert pooled(list(graphs)).df == 8 + 3 * 200


@pytest.mark.parametrize(
    ("log_ratio", "found"), [(0.0, "same"), (-0.2, "faster"), (0.2, "slower"), (-0.02, "undecided")]
)
def test_a_relation_is_what_the_whole_interval_says(log_ratio: float, found: str):
    estimate = ratio_of([session(log_ratio)] * 4, Spread(0.02, 8))
    assert estimate.low < math.exp(log_ratio) < estimate.high
    assert estimate.next_low < estimate.low < estimate.high < estimate.next_high
    assert relation(estimate, 0.03) == found


def test_identical_files_are_seldom_called_faster_or_slower():
    """Two looks, each at 97.5 %, of four and of eight sessions, spread as assumed."""
    wrong = 0
    for values in np.random.default_rng(4).normal(0, 0.02, (SEARCHES, 8)):
        for look in (4, 8):
            sessions = [session(value) for value in values[:look]]
            found = relation(ratio_of(sessions, pooled([values[:look]]), 0.975), 0.03)
            if found != "undecided":
                break
        wrong += found in ("faster", "slower")
    assert wrong <= 0.05 * SEARCHES


def test_what_a_busy_machine_makes_of_a_file_is_told_beside():
    estimate = ratio_of([session(math.log(0.2), math.log(0.26)), session(math.log(0.2), math.log(0.26), 3)], Spread())
    assert estimate.ratio == pytest.approx(0.2)
    assert estimate.ratio_of_all == pytest.approx(0.26)
    assert (estimate.sessions, estimate.busy) == (2, 1)

"""Over many searches a verdict is right as often as it says."""

import math

import numpy as np
import pytest

from autocompress.comparison import TimingSession
from autocompress.measure.intervals import Spread, pooled
from autocompress.measure.verdicts import ms_verdict, ratio_verdict

SEARCHES = 2000


def session(log_ratio: float = 0.0, ms: float = 1.0, quiet: int = 20) -> TimingSession:
    return TimingSession(log_ratio, log_ratio, ms, ms, ms, 1.0, quiet, 40)


@pytest.mark.parametrize("sd", [0.005, 0.02])
@pytest.mark.parametrize("sessions", [1, 3])
def test_a_budget_that_is_met_is_met_when_measured_again_and_one_that_is_not_is_over(sd: float, sessions: int):
    """Files of any ratio around a budget of 0.5, among nine graphs that tell the spread."""
    random = np.random.default_rng(0)
    met, kept, unmet, over = 0, 0, 0, 0
    for _ in range(SEARCHES):
        shared = pooled(list(random.normal(0, sd, (9, 3))))
        truth = math.log(0.5) + random.uniform(-0.1, 0.1)
        found = ratio_verdict([session(truth + random.normal(0, sd)) for _ in range(sessions)], shared, 0.5)
        if found.answer == "met":
            met += 1
            kept += truth + random.normal(0, sd) <= math.log(0.5)
        elif found.answer == "not met":
            unmet += 1
            over += truth > math.log(0.5)
    assert min(met, unmet) > 0.05 * SEARCHES
    assert kept / met > 0.94
    assert over / unmet > 0.94


def test_a_verdict_tells_the_numbers_it_follows_from():
    quiet = [session(math.log(0.4))] * 3
    assert ratio_verdict(quiet, Spread(), 0.5).reason == "at least 2.39x faster in the next session, 2x is asked"
    assert ratio_verdict(quiet, Spread(), 0.3).answer == "not met"
    assert ratio_verdict(quiet, Spread(), 0.3).reason == "at most 2.55x faster, 3.33x is asked"
    close = ratio_verdict(quiet, Spread(), 0.4)
    assert (close.answer, close.decided, close.met) == ("undecided", False, False)
    assert close.reason == "between 2.39x and 2.55x faster, 2.5x is asked: too close to tell"


def test_milliseconds_within_the_budget_on_a_busy_machine_are_within_it():
    assert ms_verdict([session(ms=5, quiet=2)] * 3, Spread(), 10).met


def test_milliseconds_over_the_budget_on_a_busy_machine_decide_nothing():
    found = ms_verdict([session(ms=15, quiet=2)] * 3, Spread(), 10)
    assert found.answer == "undecided"
    assert found.reason.endswith("measure again when less runs beside")


def test_quiet_sessions_decide_where_there_are_any():
    sessions = [session(ms=15, quiet=2), session(ms=5), session(ms=5.1)]
    assert ms_verdict(sessions, Spread(), 10).met
    assert ms_verdict([session(ms=15, quiet=2), session(ms=12), session(ms=12.1)], Spread(), 10).answer == "not met"
    assert ms_verdict([session(ms=10), session(ms=10)], Spread(), 10).reason.endswith("10 ms: too close to tell")

"""Over many files a verdict is right as often as it says, and a busy machine refutes nothing."""

import math
from typing import Any

import numpy as np
import pytest

from autocompress.comparison import TimingSession
from autocompress.measure.verdicts import ms_verdict, ratio_verdict

FILES = 2000


def session(log_ratio: float = 0.0, ms: float = 1.0, quiet: int = 20) -> TimingSession:
    return TimingSession(log_ratio, log_ratio, ms, ms, ms, 1.0, quiet, 40)


@pytest.mark.parametrize("sd", [0.005, 0.02, 0.06])
@pytest.mark.parametrize("count", [4, 8])
def test_a_limit_that_is_met_is_met_when_measured_again_and_one_that_is_not_is_over(sd: float, count: int):
    """Files of any ratio around a limit of 0.5."""
    random = np.random.default_rng(0)
    met, kept, unmet, over = 0, 0, 0, 0
    for _ in range(FILES):
        truth = math.log(0.5) + random.uniform(-0.3, 0.3)
        found = ratio_verdict([session(truth + random.normal(0, sd)) for _ in range(count)], 0.5)
        if found.answer == "met":
            met += 1
            kept += truth + random.normal(0, sd) <= math.log(0.5)
        elif found.answer == "not met":
            unmet += 1
            over += truth > math.log(0.5)
    assert min(met, unmet) > 0.05 * FILES
    assert kept / met > 0.975
    assert over / unmet > 0.975


def test_a_verdict_tells_the_numbers_it_follows_from():
    quiet = [session(math.log(0.4))] * 4
    met, unmet, close = (ratio_verdict(quiet, limit) for limit in (0.5, 0.3, 0.4))
    assert (met.answer, met.reason) == (
        "met",
        "at most 0.417 of its time in the next session, 0.5 of its time is the limit",
    )
    assert (unmet.answer, unmet.reason) == ("not met", "at least 0.393 of its time, 0.3 of its time is the limit")
    assert (close.answer, close.decided) == ("undecided", False)
    assert close.reason.endswith("0.4 of its time is the limit: too close to tell")


@pytest.mark.parametrize("verdict", [ratio_verdict, ms_verdict])
def test_a_busy_machine_may_show_that_a_limit_is_met_and_never_that_it_is_not(verdict: Any):
    def of(value: float, quiet: int) -> TimingSession:
        return session(math.log(value), value, quiet)

    assert verdict([of(5, 2)] * 4, 10).answer == "met"
    found = verdict([of(15, 2)] * 3 + [of(15, 20)], 10)
    assert found.answer == "undecided"
    assert found.reason.endswith("measure again when less runs beside")
    two_quiet = [of(15, 2), of(15, 2), of(5, 20), of(5.1, 20)]
    assert verdict(two_quiet, 10).answer == "met", "quiet sessions count where there are two"
    assert verdict([of(5, 2), of(12, 20), of(12.1, 20)], 10).answer == "not met"

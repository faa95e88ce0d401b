"""What a run says of its recommended model, judged by new sessions."""

import math

import pytest

from autocompress.commands.verify import judged
from autocompress.comparison import TimingSession

NO_BUDGET = {"speedup": None, "latency_ms": None}


def sessions(ratio: float, ms: float = 1.0, quiet: int = 20, count: int = 4) -> list[TimingSession]:
    return [TimingSession(math.log(ratio), math.log(ratio), ms, ms, ms, 1.0, quiet, 40)] * count


@pytest.mark.parametrize(
    ("now", "answer"), [(0.3, "met"), (0.5, "met"), (0.54, "met"), (0.62, "not met"), (0.57, "undecided")]
)
def test_a_ratio_may_be_fifteen_percent_over_the_one_the_run_says_and_any_below(now: float, answer: str):
    claims = judged(sessions(now), NO_BUDGET, 0.5)
    assert {claim: verdict.answer for claim, verdict in claims.items()} == {"ratio": answer}


def test_a_budget_is_judged_as_the_run_was_asked_it():
    assert judged(sessions(0.4), {**NO_BUDGET, "speedup": 2.0}, 0.4)["speedup"].answer == "met"
    assert judged(sessions(0.6), {**NO_BUDGET, "speedup": 2.0}, 0.6)["speedup"].answer == "not met"
    assert judged(sessions(0.4, ms=3.0), {**NO_BUDGET, "latency_ms": 4.0}, 0.4)["milliseconds"].answer == "met"
    busy = judged(sessions(0.4, ms=5.0, quiet=2), {**NO_BUDGET, "latency_ms": 4.0}, 0.4)["milliseconds"]
    assert busy.answer == "undecided"

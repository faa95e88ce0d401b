"""Whether a limit is kept: what sessions and examples can show, and what a busy machine cannot."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from autocompress.comparison import TimingSession
from autocompress.latency import Latency
from autocompress.measure import latency_of
from autocompress.verdict import FAR_OVER, drop_verdict, ms_verdict, ratio_verdict, too_small_a_split

MakeLatency = Callable[..., Latency]
Verdicts = pytest.mark.parametrize("verdict", [ratio_verdict, ms_verdict])


@Verdicts
@pytest.mark.parametrize(
    ("limit", "answer"),
    [(0.5, "met"), (0.425, "met"), (0.415, "undecided"), (0.4, "undecided"), (0.3, "not met")],
)
def test_a_limit_is_met_when_the_next_session_will_keep_it(
    limit: float, answer: str, verdict: Any, make_latency: MakeLatency
):
    """Of 0.4 the interval is 2.5 % on both sides, that of the next session 5 %."""
    found = verdict(make_latency(0.4), limit)
    assert (found.answer, found.decided, found.met) == (answer, answer != "undecided", answer == "met")


@Verdicts
def test_an_end_of_the_right_interval_decides(verdict: Any, make_latency: MakeLatency):
    latency = make_latency(0.4)
    ends = (
        (latency.ratio_low, latency.ratio_next_high) if verdict is ratio_verdict else (latency.low, latency.next_high)
    )
    assert verdict(latency, ends[1] * 1.001).met
    assert verdict(latency, ends[1] * 0.999).answer == "undecided"
    assert verdict(latency, ends[0] * 1.001).answer == "undecided"
    assert verdict(latency, ends[0] * 0.999).answer == "not met"


def test_a_ratio_and_milliseconds_are_judged_by_their_own_numbers(make_latency: MakeLatency):
    latency = make_latency(ratio=0.4, statistic=9.0)
    assert ratio_verdict(latency, 0.5).met
    assert ms_verdict(latency, 5.0).answer == "not met"


def test_a_verdict_tells_the_numbers_it_follows_from(make_latency: MakeLatency):
    latency = make_latency(0.4, 2.0, sessions=4)
    met, unmet, close = (ratio_verdict(latency, limit) for limit in (0.5, 0.3, 0.4))
    assert met.reason == (
        "at most 0.417 of the reference's time in the next session, 0.5 of the reference's time is the limit"
    )
    assert unmet.reason == "at least 0.393 of the reference's time, 0.3 of the reference's time is the limit"
    assert close.reason.endswith("0.4 of the reference's time is the limit: too close to tell")
    assert ms_verdict(latency, 3.0).reason == "at most 2.086 ms in the next session, 3 ms is the limit"


@Verdicts
def test_a_busy_machine_may_show_that_a_limit_is_met(verdict: Any, make_latency: MakeLatency):
    assert verdict(make_latency(0.4, quiet=False), 0.5).met


@Verdicts
def test_a_busy_machine_refutes_no_limit(verdict: Any, make_latency: MakeLatency):
    found = verdict(make_latency(0.6, quiet=False, sessions=7), 0.5)
    assert found.answer == "undecided"
    assert found.reason.endswith("too few moments were quiet; measure again when less runs beside")


def test_a_busy_machine_refutes_a_ratio_that_is_far_over_and_never_milliseconds(make_latency: MakeLatency):
    """What it does to the file it does to the reference beside it too, and not more than so many times as much."""
    far = make_latency(0.5 * FAR_OVER * 1.1, quiet=False)
    assert ratio_verdict(far, 0.5).answer == "not met"
    assert ms_verdict(far, 0.5).answer == "undecided"
    assert ms_verdict(make_latency(50.0, quiet=False), 0.5).answer == "undecided"


@Verdicts
@pytest.mark.parametrize(("quiet", "answer"), [(1, "undecided"), (2, "not met")])
def test_two_quiet_sessions_refute_a_limit_and_one_does_not(
    quiet: int, answer: str, verdict: Any, make_session: Callable[..., TimingSession]
):
    sessions = [make_session(0.6) for _ in range(quiet)] + [make_session(0.6, quiet=False) for _ in range(3)]
    found = verdict(latency_of(sessions), 0.5)
    assert found.answer == answer
    assert quiet > 1 or found.reason.endswith("one quiet session is too few to say so; it takes two")


@Verdicts
def test_quiet_sessions_are_believed_where_busy_ones_say_otherwise(
    verdict: Any, make_session: Callable[..., TimingSession]
):
    busy = [make_session(0.9, quiet=False) for _ in range(3)]
    assert verdict(latency_of([*busy, make_session(0.4), make_session(0.4)]), 0.5).met


@pytest.mark.parametrize(
    ("loss", "error", "answer"),
    [
        (0.5, 0.3, "met"),
        (0.5, 0.31, "undecided"),
        (1.5, 0.31, "undecided"),
        (1.5, 0.3, "not met"),
        (1.0, 0.0, "met"),
        (-3.0, 0.5, "met"),
    ],
)
def test_a_loss_is_allowed_when_it_is_with_its_error(loss: float, error: float, answer: str):
    assert drop_verdict(loss, error, 1.0, 1000).answer == answer


def test_nothing_may_be_lost_where_none_is_allowed():
    assert drop_verdict(0.0, 0.0, 0.0, 1000).met
    assert drop_verdict(0.1, 0.2, 0.0, 1000).answer == "undecided"
    assert drop_verdict(0.1, 0.0, 0.0, 1000).answer == "not met"


def test_a_verdict_on_a_loss_tells_its_numbers():
    met = drop_verdict(0.5, 0.2, 1.0, 1000)
    assert met.reason == "it loses 0.50 points, and surely loses at most 0.83; 1 may be lost"
    assert drop_verdict(-1.0, 0.2, 1.0, 1000).reason.startswith("it gains 1.00 points, and surely loses nothing;")
    assert drop_verdict(2.0, 0.2, 1.0, 1000).reason == "it loses 2.00 points, surely at least 1.67; 1 may be lost"
    close = drop_verdict(0.9, 0.2, 1.0, 1000)
    assert close.reason.endswith(
        "1 may be lost: too close to tell with 1,000 validation examples; --max-drop 1.23 is known to be kept"
    )
    assert drop_verdict(0.9, 0.2, 1.23, 1000).met


def test_of_too_small_a_split_it_is_told_how_large_it_would_have_to_be():
    """So that 1.645 standard errors are half of what may be lost; they fall with the root of the number of examples."""

    def needed(error: float, allowed: float = 1.0) -> int | None:
        found = re.search(r", ([\d,]+) would do;", drop_verdict(0.5, error, allowed, 1000).reason)
        return int(found[1].replace(",", "")) if found else None

    few = needed(0.4)
    assert few == pytest.approx(1000 * (1.645 * 0.4 / 0.5) ** 2, abs=1)
    assert needed(0.8) == pytest.approx(4 * few, abs=4)
    assert not too_small_a_split(0.4 * (1000 / few) ** 0.5, 1.0), "with so many they do"
    assert needed(0.303) is None, "there are enough"
    assert needed(0.4, allowed=0.0) is None, "no number would do"

"""The budget: what is rejected while parsing, and which side of it a measured latency lies on."""

import math
import re
from collections.abc import Callable

import pytest

from autocompress.budget import Budget
from autocompress.errors import UsageError
from autocompress.latency import Latency
from autocompress.verdict import Verdict

MakeLatency = Callable[..., Latency]


@pytest.mark.parametrize("value", [0, 0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("field", "option"), [("latency_ms", "--budget-ms"), ("speedup", "--speedup")])
def test_budget_must_be_a_positive_finite_number(field: str, option: str, value: float):
    with pytest.raises(UsageError, match=f"{option} must be a number above 0, not {value:g}"):
        Budget(**{field: value})


@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf])
def test_max_drop_must_be_a_finite_number_of_at_least_zero(value: float):
    with pytest.raises(UsageError, match="--max-drop must be a number of at least 0"):
        Budget(max_drop=value)


@pytest.mark.parametrize(
    ("budget", "times", "quiet", "ruled_out"),
    [
        (Budget(speedup=4), 1.1, True, True),
        (Budget(speedup=4), 0.9, True, False),
        (Budget(speedup=4), 1.3, False, False),  # a neighbour may be all there is to it
        (Budget(speedup=4), 1.7, False, True),
        (Budget(latency_ms=0.25), 1.1, True, True),
        (Budget(latency_ms=0.25), 5.0, False, False),  # a busy machine has no limit to its milliseconds
        (Budget(), 9.0, True, False),
        (Budget(), 9.0, False, False),
    ],
)
def test_a_busy_machine_rules_out_only_what_is_far_over_a_speed_up(
    budget: Budget, times: float, quiet: bool, ruled_out: bool, make_latency: MakeLatency
):
    assert budget.ruled_out(make_latency(times * 0.25, quiet=quiet)) is ruled_out


@pytest.mark.parametrize(
    ("budget", "times", "quiet", "within"),
    [
        (Budget(speedup=4), 0.9, True, True),
        (Budget(speedup=4), 1.1, True, False),
        (Budget(speedup=4), 0.9, False, False),  # what disturbs may have slowed the reference alone
        (Budget(speedup=4), 0.5, False, True),
        (Budget(latency_ms=0.25), 0.9, False, False),
        (Budget(latency_ms=0.25), 0.5, False, True),
    ],
)
def test_on_a_busy_machine_only_what_is_far_within_it_surely_is(
    budget: Budget, times: float, quiet: bool, within: bool, make_latency: MakeLatency
):
    assert budget.surely_within(make_latency(times * 0.25, quiet=quiet)) is within


def test_max_drop_of_zero_is_allowed():
    assert Budget(max_drop=0.0).max_drop == 0.0


def test_both_budgets_exclude_each_other():
    with pytest.raises(UsageError, match="--budget-ms and --speedup exclude each other"):
        Budget(latency_ms=1.0, speedup=2.0)


@pytest.mark.parametrize("value", ["20", True, [1]])
def test_budget_that_is_not_a_number_is_rejected(value: object):
    with pytest.raises(UsageError, match="--budget-ms"):
        Budget(latency_ms=value)


def test_budget_in_ms_reads_the_profile_statistic_and_not_the_ratio(make_latency: MakeLatency):
    budget = Budget(latency_ms=2.0)
    assert budget.excess(make_latency(ratio=9.0, statistic=1.0)) == pytest.approx(-0.5)
    assert budget.excess(make_latency(ratio=0.1, statistic=3.0)) == pytest.approx(0.5)
    assert budget.excess(make_latency(ratio=0.1, statistic=2.0)) == 0


def test_speedup_reads_the_paired_ratio_and_not_the_statistic(make_latency: MakeLatency):
    budget = Budget(speedup=4.0)
    assert budget.excess(make_latency(ratio=0.125, statistic=99.0)) == pytest.approx(-0.5)
    assert budget.excess(make_latency(ratio=0.5, statistic=0.001)) == pytest.approx(1.0)
    assert budget.excess(make_latency(ratio=0.25, statistic=99.0)) == 0


@pytest.mark.parametrize("budget", [Budget(latency_ms=1.0), Budget(speedup=1.0)], ids=["ms", "speedup"])
@pytest.mark.parametrize(
    ("middle", "excluded", "answer"),
    [(0.5, False, "met"), (0.99, False, "undecided"), (1.01, False, "undecided"), (1.5, True, "not met")],
    ids=["well within", "interval straddles from below", "interval straddles from above", "well over"],
)
def test_an_interval_decides(budget: Budget, middle: float, excluded: bool, answer: str, make_latency: MakeLatency):
    latency = make_latency(ratio=middle, statistic=middle)  # 2.5 % either side
    assert budget.excluded(latency) is excluded
    verdict = budget.verdict(latency)
    assert verdict is not None
    assert verdict.answer == answer


def test_each_budget_is_judged_by_its_own_number(make_latency: MakeLatency):
    latency = make_latency(ratio=0.1, statistic=9.0)
    speedup, milliseconds = Budget(speedup=2).verdict(latency), Budget(latency_ms=2.0).verdict(latency)
    assert speedup is not None
    assert speedup.met
    assert milliseconds is not None
    assert milliseconds.answer == "not met"
    assert Budget(latency_ms=2.0).excluded(latency)
    assert not Budget(speedup=2).excluded(latency)


@pytest.mark.parametrize("value", [0.000123456, 0.4, 1.0, 37.77, 123_456.0])
@pytest.mark.parametrize("option", ["--budget-ms", "--speedup"])
def test_where_a_budget_is_too_close_to_tell_the_nearest_that_is_known_to_be_kept_is_said(
    option: str, value: float, make_latency: MakeLatency
):
    def judged(budget: float) -> Verdict:
        found = Budget(**{"latency_ms" if option == "--budget-ms" else "speedup": budget}).verdict(latency)
        assert found is not None
        return found

    latency = make_latency(ratio=1 / value, statistic=value)
    close = judged(value)
    told = re.search(rf": too close to tell; {option} ([\d.]+) is known to be kept$", close.reason)
    assert close.answer == "undecided"
    assert told is not None, close.reason
    assert judged(float(told[1])).met
    assert float(told[1]) == pytest.approx(value, rel=0.07), "the interval of the next session is 5 % here"


def test_a_budget_of_score_alone_says_nothing_about_latency(make_latency: MakeLatency):
    assert Budget(max_drop=1.0).verdict(make_latency(1000.0)) is None


def test_without_a_budget_everything_is_within_and_nothing_is_judged(make_latency: MakeLatency):
    budget, slow = Budget(), make_latency(ratio=1000.0)
    assert not budget.bounded
    assert (budget.excess(slow), budget.excluded(slow), budget.verdict(slow)) == (0.0, False, None)
    assert budget.ratio(5.0) is None


@pytest.mark.parametrize(
    ("budget", "tighter"),
    [
        (Budget(latency_ms=2.0, max_drop=1.0), Budget(latency_ms=1.8, max_drop=1.0)),
        (Budget(speedup=1.8), Budget(speedup=2.0)),
        (Budget(max_drop=1.0), Budget(max_drop=1.0)),
    ],
    ids=["ms", "speedup", "none"],
)
def test_a_margin_makes_a_budget_of_latency_tighter(budget: Budget, tighter: Budget):
    found = budget.less(0.1)
    assert (found.latency_ms, found.speedup) == (
        tighter.latency_ms and pytest.approx(tighter.latency_ms),
        tighter.speedup and pytest.approx(tighter.speedup),
    )
    assert found.max_drop == tighter.max_drop
    assert budget.less(0.0) == budget


def test_budget_as_a_share_of_the_reference():
    assert Budget(speedup=4.0).ratio(123.0) == 0.25
    assert Budget(latency_ms=2.0).ratio(8.0) == 0.25


def test_max_drop_is_in_points_of_score():
    budget = Budget(max_drop=1.0)
    assert budget.allows_score(0.92, 0.93)
    assert budget.allows_score(0.99, 0.93)
    assert not budget.allows_score(0.9199, 0.93)
    assert Budget(max_drop=0.0).allows_score(0.3, 0.1 + 0.2)  # a rounding error is not a loss


def test_without_a_budget_of_latency_a_point_may_be_lost_and_with_one_anything():
    assert Budget().allows_score(0.92, 0.93)
    assert not Budget().allows_score(0.9199, 0.93)
    assert Budget(speedup=2).allows_score(0.0, 1.0)


def test_budget_says_what_it_is():
    texts = [str(b) for b in (Budget(), Budget(latency_ms=2.5), Budget(speedup=4))]
    assert texts == ["no budget", "2.5 ms", "4x faster than the reference"]


def test_a_drop_that_may_be_meant_in_another_unit_is_told_in_points() -> None:
    said = Budget(max_drop=0.01).small_drop("accuracy")
    assert said is not None
    assert "0.01 of a point of accuracy, 0.0001 in its own unit; for one point give --max-drop 1" in said
    assert [Budget(max_drop=drop).small_drop("accuracy") for drop in (None, 0, 0.1, 1)] == [None] * 4

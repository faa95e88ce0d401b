"""How long each family trains: rung lengths and promotions."""

import pytest

from autocompress.explore.policy import SearchPolicy
from autocompress.explore.schedule.rungs import lengths, promotable


def test_each_rung_is_three_times_the_one_before():
    first, second, third = lengths(seconds=600, examples=50_000)
    assert (first.seconds, first.examples) == (pytest.approx(9.6), 250_000)
    assert second == first.times(3)
    assert third == first.times(9)


def test_rungs_are_as_long_as_the_policy_says():
    policy = SearchPolicy(first_share=0.1, eta=2, most_epochs=1.0)
    first, second, third = lengths(600, 100, policy)
    assert (first.seconds, first.examples) == (pytest.approx(60), 100)
    assert (second, third) == (first.times(2), first.times(4))
    two = [family("a", 0, 0.8), family("b", 0, 0.7)]
    assert (promotable(two, 0.9), promotable(two, 0.9, policy=policy)) == (None, "a")


def test_first_rung_follows_the_time():
    assert lengths(1200, 10**6)[0].seconds == 2 * lengths(600, 10**6)[0].seconds


def test_small_data_is_read_five_times_at_most_at_the_first_rung():
    assert lengths(3600, 1000)[0].examples == 5000


def family(name: str, rung: int, score: float) -> tuple[str, int, tuple[float, float]]:
    return name, rung, (score, 0.5)


def test_nothing_is_promoted_before_three_families():
    assert promotable([], 0.9) is None
    assert promotable([family("a", 0, 0.9), family("b", 0, 0.8)], 0.9) is None


def test_best_third_is_promoted_once():
    three = [family("a", 0, 0.88), family("b", 0, 0.90), family("c", 0, 0.87)]
    assert promotable(three, 0.9) == "b"
    promoted = [three[0], family("b", 1, 0.91), three[2]]
    assert promotable(promoted, 0.9) is None  # b is still the best third of its old rung


def test_of_six_the_second_best_follows():
    families = [family(n, 0, s) for n, s in zip("abcdef", (0.86, 0.87, 0.88, 0.89, 0.90, 0.91), strict=True)]
    assert promotable(families, 0.9) == "f"
    families[5] = family("f", 1, 0.92)
    assert promotable(families, 0.9) == "e"
    families[4] = family("e", 1, 0.91)
    assert promotable(families, 0.9) is None  # a third of six are two, and those that went further count


def test_what_is_under_way_makes_room_for_the_next_best():
    families = [family(n, 0, s) for n, s in zip("abcdef", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True)]
    assert promotable(families, 0.9, busy={"f"}) == "e"
    assert promotable(families, 0.9, busy={"e", "f"}) is None


def test_pareto_rank_counts_before_score():
    families = [("accurate", 0, (0.93, 1.0)), ("fast", 0, (0.90, 0.1)), ("dominated", 0, (0.92, 1.1))]
    assert promotable(families, 0.93) == "fast"

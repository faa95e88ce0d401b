"""How long each family trains: rung lengths and promotions."""

import pytest

from autocompress.explore.policy import SearchPolicy
from autocompress.explore.schedule.rungs import TRAINED, lengths, promotable


def test_nothing_is_trained_at_the_first_rung_and_each_training_is_three_times_the_one_before():
    untrained, first, second = lengths(seconds=600)
    assert (untrained.seconds, untrained.examples) == (0, 0)
    assert (first.seconds, first.examples) == (pytest.approx(24), 100_000)
    assert second == first.times(3)


def test_rungs_are_as_long_as_the_policy_says():
    policy = SearchPolicy(first_share=0.1, eta=2, most_seen=100)
    _, first, second = lengths(600, policy)
    assert (first.seconds, first.examples) == (pytest.approx(60), 100)
    assert second == first.times(2)
    four = [family(name, 1, 0.9 - 0.1 * n) for n, name in enumerate("ab")] + [family("c", 0, 0.6), family("d", 0, 0.5)]
    assert (promotable(four[:3], 0.9), promotable(four[:3], 0.9, policy=policy)) == (None, None)
    four[1] = family("b", 0, 0.8)
    assert (promotable(four[:3], 0.9), promotable(four[:3], 0.9, policy=policy)) == (None, "b")


def test_the_first_training_follows_the_time():
    assert lengths(1200)[TRAINED].seconds == 2 * lengths(600)[TRAINED].seconds


def family(name: str, rung: int, score: float) -> tuple[str, int, tuple[float, float]]:
    return name, rung, (score, 0.5)


def test_the_only_family_is_trained():
    assert promotable([], 0.9) is None
    assert promotable([family("a", 0, 0.9)], 0.9) == "a"
    assert promotable([family("a", 1, 0.9), family("b", 0, 0.8)], 0.9) is None


def test_best_third_is_trained_once():
    three = [family("a", 0, 0.88), family("b", 0, 0.90), family("c", 0, 0.87)]
    assert promotable(three, 0.9) == "b"
    trained = [three[0], family("b", 1, 0.90), three[2]]
    assert promotable(trained, 0.9) is None  # b is still the best third of those that were not trained yet


def test_of_six_the_second_best_follows():
    families = [family(n, 0, s) for n, s in zip("abcdef", (0.86, 0.87, 0.88, 0.89, 0.90, 0.91), strict=True)]
    assert promotable(families, 0.9) == "f"
    families[5] = family("f", 1, 0.91)
    assert promotable(families, 0.9) == "e"
    families[4] = family("e", 1, 0.90)
    assert promotable(families, 0.9) is None  # a third of six are two, and those that went further count


def test_where_timing_has_had_its_share_twice_as_many_are_trained():
    families = [family(n, int(n == "a"), s) for n, s in zip("abcdef", (0.9, 0.8, 0.7, 0.6, 0.5, 0.4), strict=True)]
    assert promotable(families, 0.9, busy={"b"}) is None
    assert promotable(families, 0.9, busy={"b"}, times=2) == "c"
    assert promotable(families, 0.9, busy={"b", "c", "d"}, times=2) is None


def test_what_is_under_way_makes_room_for_the_next_best():
    families = [family(n, 0, s) for n, s in zip("abcdef", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True)]
    assert promotable(families, 0.9, busy={"f"}) == "e"
    assert promotable(families, 0.9, busy={"e", "f"}) is None


def test_pareto_rank_counts_before_score():
    families = [("accurate", 0, (0.93, 1.0)), ("fast", 0, (0.90, 0.1)), ("dominated", 0, (0.92, 1.1))]
    assert promotable(families, 0.93) == "fast"

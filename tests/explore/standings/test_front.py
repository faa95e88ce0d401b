"""Dominance, hypervolume and the choice on the front: pure functions on (score, latency ratio)."""

import math
import random

import pytest

from autocompress.explore.standings.front import (
    best_first,
    dominates,
    gains,
    hypervolume,
    pareto,
    ranks,
    ratio_by_missing_area,
)

NAN = math.nan


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0.9, 0.5), (0.8, 0.6), True),
        ((0.9, 0.5), (0.9, 0.6), True),
        ((0.9, 0.5), (0.8, 0.5), True),
        ((0.9, 0.5), (0.9, 0.5), False),
        ((0.9, 0.6), (0.8, 0.5), False),
        ((0.8, 0.6), (0.9, 0.5), False),
        ((NAN, 0.5), (0.8, 0.6), False),
        ((0.9, 0.5), (NAN, 0.6), False),
        ((0.9, NAN), (0.8, 0.6), False),
    ],
)
def test_dominance(one: tuple[float, float], other: tuple[float, float], expected: bool):
    assert dominates(one, other) is expected


def test_front_is_the_undominated_points_fastest_first():
    points = [(0.93, 1.0), (0.90, 0.2), (0.92, 0.5), (0.91, 0.6), (0.80, 0.3)]
    assert pareto(points) == [1, 2, 0]


def test_front_keeps_the_first_of_equal_points_and_no_nan():
    assert pareto([(0.9, 0.5), (0.9, 0.5), (NAN, 0.1), (0.95, NAN), (0.9, 0.6), (0.8, 0.5)]) == [0]
    assert pareto([]) == []
    assert pareto([(NAN, NAN)]) == []


def test_front_agrees_with_the_definition_on_random_points():
    drawn = random.Random(0)
    for _ in range(50):
        points = [(drawn.randint(0, 6) / 6, drawn.randint(1, 6) / 6) for _ in range(12)]
        expected = {p for p in points if not any(dominates(q, p) for q in points)}
        front = pareto(points)
        assert {points[i] for i in front} == expected
        assert len(front) == len(expected)
        assert [points[i][1] for i in front] == sorted(points[i][1] for i in front)


def test_ranks_peel_one_front_after_another():
    assert ranks([(0.9, 0.5), (0.8, 0.6), (0.95, 0.9), (0.7, 0.7), (0.9, 0.5)]) == [0, 1, 0, 2, 0]


def test_hypervolume_of_known_points():
    assert hypervolume([], 0.9) == 0
    assert hypervolume([(0.9, 1 / 16)], 0.9) == pytest.approx(1.0)  # sixteen times faster, nothing lost
    assert hypervolume([(0.9, 1 / 4)], 0.9) == pytest.approx(0.5)
    assert hypervolume([(0.875, 1 / 4)], 0.9) == pytest.approx(0.25)
    assert hypervolume([(0.9, 1 / 4), (0.875, 1 / 16)], 0.9) == pytest.approx(0.75)


def test_hypervolume_ignores_what_is_worth_nothing():
    assert hypervolume([(0.84, 1 / 16)], 0.9) == 0  # over five points lost
    assert hypervolume([(0.95, 1.5)], 0.9) == 0  # slower than the reference
    assert hypervolume([(0.9, 1e-6)], 0.9) == pytest.approx(1.0)  # beyond 16x nothing is added
    assert hypervolume([(NAN, 0.5)], 0.9) == 0


def test_gain_is_what_a_point_alone_adds():
    points = [(0.9, 1 / 4), (0.875, 1 / 16), (0.87, 1 / 8), (0.9, 1 / 4)]
    gain = gains(points, ranks(points), 0.9)
    assert gain[2] == pytest.approx(0)  # dominated
    assert gain[0] == pytest.approx(0)  # there is another like it
    assert gain[1] == pytest.approx(0.25 - 0.1)  # the strip from 4x to 8x is held by the third one at 0.02 of 0.05


def test_room_is_spread_evenly_while_nothing_is_known():
    assert [ratio_by_missing_area([], 0.9, 1 / 16, share) for share in (0.25, 0.5, 0.75)] == pytest.approx(
        [1 / 2, 1 / 4, 1 / 8]
    )
    assert ratio_by_missing_area([], 0.9, 1 / 4, 0.5) == pytest.approx(1 / 2)


def test_room_is_where_the_front_is_low():
    lossless = [(0.9, 1 / 4)]
    assert ratio_by_missing_area(lossless, 0.9, 1 / 16, 0.5) == pytest.approx(1 / 8), (
        "none up to 4x, all from there to 16x"
    )
    two = [*lossless, (0.89, 1 / 8), (0.8, 1 / 10), (0.85, 1 / 9)]  # the last two are worth nothing
    # A fifth of the score is missing from 4x to 8x, all of it from there to 16x: five sixths of the lock.
    assert ratio_by_missing_area(two, 0.9, 1 / 16, 1 / 12) == pytest.approx(2.0**-2.5)
    assert ratio_by_missing_area(two, 0.9, 1 / 16, 1 / 6 + 5 / 12) == pytest.approx(2.0**-3.5)


def test_without_room_the_fastest_is_aimed_at():
    assert ratio_by_missing_area([(0.9, 1 / 20)], 0.9, 1 / 16, 0.5) == 1 / 16
    assert ratio_by_missing_area([(0.95, 1 / 20)], 0.9, 1 / 16, 0.0) == 1 / 16


def test_best_first_orders_by_rank_then_gain_then_score():
    dominated, small, large = (0.86, 0.5), (0.9, 0.4), (0.89, 0.1)
    assert best_first([dominated, small, large], 0.9) == [2, 1, 0]
    below_worth, beaten = (0.7, 0.05), (0.89, 0.5)  # neither adds any hypervolume; the first is on the front
    assert best_first([beaten, below_worth, small], 0.9) == [2, 1, 0]
    worthless = [(0.5, 0.5), (0.6, 0.6)]
    assert best_first(worthless, 0.9) == [1, 0]

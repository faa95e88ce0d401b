"""Which groups lose more than the average says, and what is said where many are looked at."""

import random

import pytest

from autocompress.group_losses import FEWEST_EXAMPLES, GroupLoss, GroupLosses


def losses(*rows: tuple[float, float]) -> GroupLosses:
    """Points lost and their error, of groups "0", "1", ..."""
    found = [
        GroupLoss(str(number), 500, 0.9, 0.9 - points / 100, points / 100, error / 100)
        for number, (points, error) in enumerate(rows)
    ]
    return GroupLosses("class", tuple(found), ("rare",))


def test_a_class_that_surely_loses_more_than_all_is_named() -> None:
    found = losses((0.2, 0.5), (8.0, 1.0), (0.1, 0.5))
    assert [g.name for g in found.hidden(0.005)] == ["1"]
    assert found.hidden(0.09) == [], "all lose as much"


def test_what_is_within_the_error_or_hardly_more_is_not_named() -> None:
    assert losses((3.0, 2.5), (0.0, 1.0)).hidden(0.0) == []
    assert losses((0.9, 0.01), (0.0, 0.01)).hidden(0.0) == [], "less than a point"
    assert losses((1.1, 0.3), (0.0, 0.01)).hidden(0.0) == [], "not surely a point"


def test_of_many_groups_few_are_named_by_chance() -> None:
    draw = random.Random(0)
    named = sum(
        bool(losses(*((draw.gauss(0.0, 2.0), 2.0) for _ in range(50))).losing_more_than(0.0)) for _ in range(2000)
    )
    assert named / 2000 == pytest.approx(0.05, abs=0.015)


def test_once_one_is_named_the_next_is_judged_among_the_others() -> None:
    """2.05 standard errors are enough for the last of two, and not for the first."""
    both, alone = losses((9.0, 1.0), (4.0, 1.95)), losses((0.0, 1.0), (4.0, 2.1))
    assert [g.name for g in both.losing_more_than(0.0)] == ["0", "1"]
    assert alone.losing_more_than(0.0) == []


def test_where_no_group_is_large_enough_nothing_is_said() -> None:
    assert losses().verdict(1.0).reason == f"no class has {FEWEST_EXAMPLES} examples"
    assert losses().hidden(0.0) == []


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        (((0.2, 0.3), (9.0, 1.0)), "not met"),
        (((0.2, 0.3), (0.5, 0.4)), "met"),
        (((0.2, 0.3), (2.5, 1.0)), "undecided"),
        (((-1.0, 0.3), (-2.0, 0.3)), "met"),
    ],
)
def test_no_class_may_lose_more_than_was_said(rows: tuple[tuple[float, float], ...], answer: str) -> None:
    found = losses(*rows).verdict(2.0)
    assert found.answer == answer
    worst = max(range(len(rows)), key=lambda number: rows[number][0])
    assert f"class {worst} " in found.reason
    assert "2 may be lost" in found.reason
    assert ("surely more than allowed" in found.reason) is (answer == "not met")


def test_it_comes_back_from_json() -> None:
    found = losses((0.2, 0.3), (9.0, 1.0))
    assert GroupLosses.from_json(found.to_json()) == found

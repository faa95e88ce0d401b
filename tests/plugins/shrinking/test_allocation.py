"""How much each group loses, against numbers worked out by hand."""

import numpy as np
import pytest

from autocompress_plugins.shrinking.allocation import (
    ABOVE_AVERAGE,
    MOST_OF_A_GROUP,
    by_importance,
    by_sensitivity,
    rounded_width,
    uniform,
)


def test_uniform_takes_the_same_share_of_each_group():
    np.testing.assert_array_equal(uniform(0.3, 4), [0.3] * 4)


def test_by_importance_takes_the_least_important_wherever_they_are():
    low, mixed, high = np.array([1.0, 2.0, 9.0, 9.5]), np.array([3.0, 8.0, 7.0, 10.0]), np.array([11.0, 12.0])
    np.testing.assert_allclose(by_importance([low, mixed, high], 0.3), [0.5, 0.25, 0.0])  # 1, 2 and 3 of ten go


def test_by_importance_takes_as_many_as_asked_of_units_that_matter_alike():
    dead = np.array([0.0, 0.0, 5.0, 6.0]), np.array([0.0, 0.0, 0.0, 7.0])
    np.testing.assert_allclose(by_importance(dead, 0.25), [0.5, 0.0])
    np.testing.assert_allclose(by_importance(dead, 0.5), [0.5, 0.5])
    np.testing.assert_allclose(by_importance([np.ones(4), np.ones(4)], 0.25), [0.5, 0.0])


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_by_importance_takes_the_asked_share_whatever_the_ties(ratio: float):
    draw = np.random.default_rng(0)
    importances = [draw.integers(0, 6, 20).astype(float) for _ in range(5)]
    shares = by_importance(importances, ratio)
    assert shares.max() < ratio + ABOVE_AVERAGE
    assert (20 * shares).sum() == pytest.approx(ratio * 100)


def test_by_importance_caps_the_share_of_one_group():
    worthless, worthy = np.linspace(0, 1, 10), np.linspace(2, 3, 10)
    np.testing.assert_allclose(by_importance([worthless, worthy], 0.5), [0.5 + ABOVE_AVERAGE, 0.0])
    assert by_importance([worthless, worthy], 0.9).max() == MOST_OF_A_GROUP


def test_by_sensitivity_shares_are_proportional_to_cost_over_loss():
    shares = by_sensitivity(np.array([1.0, 2.0, 4.0]), np.array([100.0, 100.0, 100.0]), 0.2)
    np.testing.assert_allclose(shares / shares[2], [4.0, 2.0, 1.0], rtol=1e-6)
    shares = by_sensitivity(np.array([1.0, 1.0]), np.array([300.0, 100.0]), 0.2)
    np.testing.assert_allclose(shares[0], 3 * shares[1], rtol=1e-6)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_by_sensitivity_removes_the_asked_share_of_the_cost(ratio: float):
    draw = np.random.default_rng(0)
    losses, costs = draw.uniform(0.1, 1.0, 12), draw.uniform(1e3, 1e5, 12)
    shares = by_sensitivity(losses, costs, ratio)
    assert (shares * costs).sum() == pytest.approx(ratio * costs.sum(), rel=1e-6)
    assert shares.max() <= min(MOST_OF_A_GROUP, ratio + ABOVE_AVERAGE) + 1e-9


def test_by_sensitivity_at_its_minimum():
    """No other shares of equal cost have a smaller sum of losses."""
    losses, costs = np.array([0.2, 0.5, 1.0]), np.array([1.0, 3.0, 2.0])
    best = by_sensitivity(losses, costs, 0.3)
    draw = np.random.default_rng(1)
    for _ in range(200):
        step = draw.normal(size=3) * 0.02
        step -= costs * (step @ costs) / (costs @ costs)  # along equal cost
        assert (losses * (best + step) ** 2).sum() >= (losses * best**2).sum()


def test_by_sensitivity_takes_a_harmless_group_to_its_cap_and_not_beyond():
    shares = by_sensitivity(np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 1.0]), 0.5)
    assert shares[0] == pytest.approx(0.8)
    assert shares[1] == shares[2] == pytest.approx(0.35)


def test_by_sensitivity_of_groups_that_all_are_harmless_is_uniform():
    np.testing.assert_allclose(by_sensitivity(np.zeros(3), np.full(3, 7.0), 0.4), [0.4] * 3, rtol=1e-6)


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_by_sensitivity_touches_a_group_without_which_the_loss_is_no_number_last(broken: float):
    losses, costs = np.array([1.0, broken, 1.0]), np.ones(3)
    np.testing.assert_allclose(by_sensitivity(losses, costs, 0.2), [0.3, 0.0, 0.3], atol=1e-5)
    np.testing.assert_allclose(
        by_sensitivity(losses, costs, 0.9), [MOST_OF_A_GROUP, 2.7 - 2 * MOST_OF_A_GROUP, MOST_OF_A_GROUP], rtol=1e-6
    )
    np.testing.assert_allclose(by_sensitivity(np.full(3, broken), costs, 0.4), [0.4] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("width", "most", "round_to", "kept"),
    [
        (30.0, 64, 8, 32),
        (27.9, 64, 8, 24),
        (1.0, 64, 8, 8),  # at least one multiple
        (64.0, 64, 8, 64),
        (21.0, 30, 8, 20),  # a narrow layer rounds to the largest power of two in a quarter of its width: 4
        (29.0, 30, 8, 28),
        (14.0, 48, 16, 16),
        (14.0, 48, 12, 12),  # whatever fits is taken as it is
        (0.2, 3, 8, 1),
        (1.6, 3, 8, 2),
        (0.0, 1, 16, 1),
        (5.4, 10, 1, 5),
    ],
)
def test_rounded(width: float, most: int, round_to: int, kept: int):
    assert rounded_width(width, most, round_to) == kept

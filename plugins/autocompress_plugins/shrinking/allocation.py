"""How many units each group keeps. Pure functions on numbers."""

from collections.abc import Sequence

import numpy as np

from autocompress.arrays import Floats

MOST_OF_A_GROUP = 0.95
ABOVE_AVERAGE = 0.3  # a group loses at most this much more than the average
UNBOUNDED = 1e6  # how many times the largest rise of the loss one counts that is no number


def uniform(ratio: float, groups: int) -> Floats:
    """The same share of every group -> (groups,)."""
    return np.full(groups, ratio, dtype=np.float64)


def by_importance(importances: Sequence[Floats], ratio: float) -> Floats:
    """Shares when the ``ratio`` of all units that matter least go, wherever they are -> (groups,). Of units that matter
    alike those of the first groups go.
    """
    sizes = np.array([len(each) for each in importances])
    order = np.argsort(np.concatenate(importances), kind="stable")
    groups = np.repeat(np.arange(len(sizes)), sizes)
    gone = np.bincount(groups[order[: round(ratio * len(order))]], minlength=len(sizes))
    return np.asarray(np.minimum(gone / sizes, _most(ratio)), dtype=np.float64)


def by_sensitivity(losses: Floats, costs: Floats, ratio: float) -> Floats:
    """Shares that remove ``ratio`` of the cost with the least rise of the loss -> (groups,).

    losses: rise of the loss with half of a group gone, taken to grow with the square of the share (a second-order
    expansion, as in LeCun et al., "Optimal Brain Damage", 1990). A group without which the loss is no number (infinite
    or NaN) is touched last. costs: multiply-accumulates of each group. At the minimum of sum(loss * (2 s)^2) under
    sum(cost * s) = ratio * sum(cost) every share is proportional to cost / loss.
    """
    bounded = np.isfinite(losses)
    largest = float(losses[bounded].max(initial=0.0))
    losses = np.where(bounded, losses, UNBOUNDED * max(largest, 1.0))
    worth = costs / np.maximum(losses, max(1e-6, 0.02 * largest))
    most = _most(ratio)
    target, low, high = ratio * costs.sum(), 0.0, float(1.0 / worth.min())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (costs * np.minimum(middle * worth, most)).sum() < target else (low, middle)
    return np.asarray(np.minimum(high * worth, most), dtype=np.float64)


def rounded_width(width: float, most: int, round_to: int) -> int:
    """The nearest multiple of ``round_to``, at least one of them and at most ``most``; in narrow layers of the largest
    power of two that is at most a quarter of the width, so that they too can shrink.
    """
    quarter = max(1, most // 4)
    if round_to > quarter:
        round_to = 1 << (quarter.bit_length() - 1)
    return min(most, max(round_to, round(width / round_to) * round_to, 1))


def _most(ratio: float) -> float:
    """The share that one group loses at most."""
    return min(MOST_OF_A_GROUP, ratio + ABOVE_AVERAGE)

"""How many units each group keeps. Pure functions on numbers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MOST = 0.95  # of a group
BEYOND = 0.3  # a group loses at most this much more than the average


def uniform(ratio: float, groups: int) -> Floats:
    """The same share of every group -> (groups,)."""
    return np.full(groups, ratio, dtype=np.float64)


def by_importance(importances: Sequence[Floats], ratio: float) -> Floats:
    """Shares when the ``ratio`` of all units that matter least go, wherever they are -> (groups,)."""
    everything = np.sort(np.concatenate(importances))
    threshold = everything[min(int(ratio * len(everything)), len(everything) - 1)]
    shares = np.array([float((each < threshold).mean()) for each in importances])
    return np.asarray(np.minimum(shares, min(MOST, ratio + BEYOND)), dtype=np.float64)


def by_sensitivity(losses: Floats, costs: Floats, ratio: float) -> Floats:
    """Shares that remove ``ratio`` of the cost with the least rise of the loss -> (groups,).

    losses: rise of the loss with half of a group gone, taken to grow with the square of the share (a second-order
    expansion, as in LeCun et al., "Optimal Brain Damage", 1990). costs: multiply-accumulates of each group. At the
    minimum of sum(loss * (2 s)^2) under sum(cost * s) = ratio * sum(cost) every share is proportional to cost / loss.
    """
    worth = costs / np.maximum(losses, max(1e-6, 0.02 * float(losses.max(initial=0.0))))
    most = min(MOST, ratio + BEYOND)
    target, low, high = ratio * costs.sum(), 0.0, float(1.0 / worth.min())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (costs * np.minimum(middle * worth, most)).sum() < target else (low, middle)
    return np.asarray(np.minimum(high * worth, most), dtype=np.float64)


def rounded(width: float, most: int, round_to: int) -> int:
    """The nearest multiple of ``round_to``, at least one of them and at most ``most``; in narrow layers of a quarter of
    the width, so that they too can shrink."""
    round_to = max(1, min(round_to, most // 4))
    return min(most, max(round_to, round(width / round_to) * round_to, 1))

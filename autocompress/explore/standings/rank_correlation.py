"""Whether one order of the families foretells another. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

FEWEST_TRAINED_ON = 6  # families, below which a correlation can be anything


def rank_correlation(before: Mapping[str, float], after: Mapping[str, float]) -> float | None:
    """Spearman's correlation between the scores of the families in both; None for fewer than three."""
    names = sorted(before.keys() & after.keys())
    if len(names) < 3:
        return None
    one, other = (_positions([scores[n] for n in names]) for scores in (before, after))
    mean = (len(names) - 1) / 2
    covariance = sum((a - mean) * (b - mean) for a, b in zip(one, other, strict=True))
    spread = (sum((a - mean) ** 2 for a in one) * sum((b - mean) ** 2 for b in other)) ** 0.5
    return covariance / spread if spread else None


def _positions(values: Sequence[float]) -> list[float]:
    """Ranks from 0, ties sharing their mean rank."""
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) - 1) / 2 for value in values]

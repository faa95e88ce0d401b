"""How long each family trains: asynchronous successive halving (Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020), with families ordered by Pareto rank and hypervolume gain. Pure functions on
numbers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from autocompress.explore.front import Point, best_first
from autocompress.explore.policy import SearchPolicy

LAST = 2  # rungs 0, 1 and 2: 1, 3 and 9 times the first length


@dataclass(frozen=True)
class Length:
    """How long a family trains in all to reach a rung: so many seconds or examples, whichever are fewer.

    By the clock a small model learns from more examples than a large one: it needs them, and they cost it less.
    """

    seconds: float
    examples: int

    def times(self, factor: float) -> "Length":
        return Length(self.seconds * factor, round(self.examples * factor))


def lengths(seconds: float, examples: int, policy: SearchPolicy = SearchPolicy()) -> tuple[Length, ...]:
    """The length of each rung, of all trainings up to it. seconds: of the whole search. examples: in the training
    split; a tiny data set is read only so many times at the first rung.
    """
    first = Length(policy.first_share * seconds, max(1, round(policy.most_epochs * examples)))
    return tuple(first.times(policy.eta**rung) for rung in range(LAST + 1))


def promotable(
    families: Sequence[tuple[str, int, Point]],
    reference_score: float,
    busy: Container[str] = (),
    policy: SearchPolicy = SearchPolicy(),
) -> str | None:
    """The family to train on, or None.

    families: (name, rung reached, point there). A family is promoted from the first rung when it is in the best third
    of all; further on train only the finalists, at the end. busy: names that are under way already.
    """
    order = best_first([point for _, _, point in families], reference_score)
    for name, rung, _ in (families[index] for index in order[: len(families) // policy.eta]):
        if rung == 0 and name not in busy:
            return name
    return None


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

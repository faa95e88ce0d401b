"""How long each family trains: asynchronous successive halving (Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020), with families ordered by Pareto rank and hypervolume gain. Pure functions on
numbers.
"""

from collections.abc import Mapping, Sequence

from autocompress.explore.front import Point, best_first

ETA = 3
LAST = 2  # rungs 0, 1 and 2: 1, 3 and 9 times the first length
FIRST_SHARE = 0.03  # of the whole time, for one training of the reference's size at the first rung
MOST_EPOCHS = 5.0  # at the first rung


def lengths(seconds: float, seconds_per_example: float, examples: int) -> tuple[int, ...]:
    """Cumulative training examples of each rung.

    seconds: of the whole search. seconds_per_example: of training the reference. examples: in the training split. A
    smaller candidate takes less than its share of the time; a tiny data set is read at most 5 times at the first rung.
    """
    first = min(FIRST_SHARE * seconds / max(seconds_per_example, 1e-9), MOST_EPOCHS * examples)
    first = max(1, min(examples, 64), round(first))
    return tuple(first * ETA**rung for rung in range(LAST + 1))


def promotable(families: Sequence[tuple[str, int, Point]], reference_score: float, last: int = LAST - 1) -> str | None:
    """The family to train on, or None.

    families: (name, rung reached, point there). A family is promoted when it is in the best third of all that
    reached its rung (those that went further included) and its rung is below ``last``; the highest rung is served
    first.
    """
    for rung in range(last - 1, -1, -1):
        here = [family for family in families if family[1] >= rung]
        order = best_first([point for _, _, point in here], reference_score)
        for index in order[: len(here) // ETA]:
            if here[index][1] == rung:
                return here[index][0]
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
    return [sum(v < value for v in values) + (sum(v == value for v in values) - 1) / 2 for value in values]

"""How long each family trains: asynchronous successive halving (Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020), with families ordered by Pareto rank and hypervolume gain. Pure functions on
numbers.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass

from autocompress.explore.policy import SearchPolicy
from autocompress.explore.standings.front import Point, best_first

UNTRAINED = 0  # a structure as it was repaired
TRAINED, LAST = 1, 2  # trainings: 1 and 3 times the first length


@dataclass(frozen=True)
class Length:
    """How long a family trains in all to reach a rung: so many seconds or examples, whichever are fewer.

    By the clock a small model learns from more examples than a large one: it needs them, and they cost it less.
    """

    seconds: float
    examples: int

    def times(self, factor: float) -> "Length":
        return Length(self.seconds * factor, round(self.examples * factor))


def lengths(seconds: float, policy: SearchPolicy = SearchPolicy()) -> tuple[Length, ...]:
    """The length of each rung, of all trainings up to it; of the first one nothing. seconds: of the whole search. A
    small data set is read as often as that takes: what counts is how many steps are made.
    """
    first = Length(policy.first_share * seconds, policy.most_seen)
    return (first.times(0), *(first.times(policy.eta ** (rung - TRAINED)) for rung in range(TRAINED, LAST + 1)))


def promotable(
    families: Sequence[tuple[str, int, Point]],
    reference_score: float,
    busy: Container[str] = (),
    policy: SearchPolicy = SearchPolicy(),
    times: int = 1,
) -> str | None:
    """The family to train, or None.

    families: (name, rung reached, point before any training), of those that were evaluated untrained. The best third is
    trained, at least one; beyond the first training only the finalists train on, at the end. busy: names that are under
    way already. times: as large a share of the best.
    """
    order = best_first([point for *_, point in families], reference_score)
    for name, rung, _ in (families[index] for index in order[: times * -(-len(families) // policy.eta)]):
        if rung == UNTRAINED and name not in busy:
            return name
    return None

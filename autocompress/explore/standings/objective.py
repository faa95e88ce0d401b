"""What a search is after: score within a budget of latency, or without one the front of both."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from autocompress.budget import Budget
from autocompress.evaluation import Evaluation
from autocompress.explore.standings.front import WITHIN, Point

VERDICT_TAKES = 0.05  # of a budget: how far the next session may lie from three, at the spread that is assumed


@dataclass(frozen=True)
class Objective:
    """budget: what the user allows. reference: the unchanged model."""

    budget: Budget
    reference: Evaluation

    @cached_property
    def steering(self) -> Budget:
        """The budget that decides where time is spent: less by what its verdict takes, so that what is found does not
        sit on the edge; none when the reference itself is within it, so that the front is explored.
        """
        slack = self.budget.bounded and self.budget.excess(self.reference.latency) <= 0
        return Budget(max_drop=self.budget.max_drop) if slack else self.budget.less(VERDICT_TAKES)

    @cached_property
    def target(self) -> float | None:
        """The budget that steers, as a latency ratio."""
        return self.steering.ratio(self.reference.latency.statistic)

    def feasible(self, evaluation: Evaluation) -> bool:
        """Whether a file meets the budget and keeps enough score."""
        return self.budget.excess(evaluation.latency) <= 0 and self.budget.allows_score(
            evaluation.score.val, self.reference.score.val
        )

    def best_feasible(self, evaluations: Iterable[Evaluation]) -> Evaluation | None:
        """The most accurate feasible file, of equal ones the first."""
        return max(filter(self.feasible, evaluations), key=lambda e: e.score.val, default=None)

    def loses_nothing(self, evaluation: Evaluation) -> bool:
        """Whether a file is known to be as good as the reference, and how fast it is."""
        known = evaluation.latency.quiet and evaluation.score.whole
        return known and evaluation.score.val >= self.reference.score.val - WITHIN

    def clipped(self, evaluation: Evaluation) -> Point:
        """A file's point for deciding where to spend time: within the budget, faster is not better."""
        if self.target is not None and self.steering.excess(evaluation.latency) <= 0:
            return evaluation.score.val, self.target
        return point(evaluation)


def point(evaluation: Evaluation) -> Point:
    """Of a file its validation score and its latency ratio."""
    return evaluation.score.val, evaluation.latency.ratio

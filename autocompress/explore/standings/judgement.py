"""What a file is worth recommending for: the verdicts on its latency and its loss of score. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from autocompress.budget import Budget
from autocompress.data import keeps_half_the_lead
from autocompress.evaluation import Chance, Evaluation
from autocompress.verdict import ONE_SIDED, Verdict, drop_verdict

HALF_INTERVAL = 1.96  # standard errors that half a 95 % interval is


@dataclass(frozen=True)
class Judgement:
    """latency: whether the budget of latency is kept, None without one. drop: whether the score is, None where any loss
    is allowed. loss: points of score below the reference's on the same examples; error: its standard error. allowed: as
    much as may be lost, None where nobody said. excess: how far over the budget of latency, as a share of it.
    keeps_lead: whether it keeps half of what the reference is better than chance.
    """

    evaluation: Evaluation
    latency: Verdict | None
    drop: Verdict | None
    loss: float
    error: float
    allowed: float | None
    excess: float
    keeps_lead: bool

    @property
    def worth(self) -> bool:
        """Whether it is worth having at all; what was asked for is."""
        return self.keeps_lead or self.allowed is not None

    @property
    def met(self) -> bool:
        """Whether all that was asked for is known to be kept."""
        return (self.latency is None or self.latency.met) and (self.drop is None or self.drop.met)

    @property
    def keeps_latency(self) -> bool:
        return self.latency is None or self.latency.met

    @cached_property
    def keeps_score(self) -> bool:
        """Whether the loss is known to be allowed; on a split that is too small to tell, whether it probably is."""
        if self.drop is None or self.drop.met or self.allowed is None:
            return self.drop is None or self.drop.met
        return self.on_too_small_a_split and self.loss + self.error <= self.allowed

    @property
    def on_too_small_a_split(self) -> bool:
        """Whether the examples cannot tell half of what may be lost from nothing."""
        return self.allowed is not None and ONE_SIDED * self.error > self.allowed / 2

    @property
    def recommendable(self) -> bool:
        return self.keeps_latency and self.keeps_score and self.worth

    @property
    def hopeful(self) -> bool:
        """Whether further sessions may well show that it is recommendable."""
        within = self.keeps_latency or (self.latency is not None and not self.latency.decided and self.excess <= 0)
        return within and self.keeps_score and self.worth


def examples_needed(judgement: Judgement, examples: int) -> int | None:
    """Validation examples that would do, where the split is too small; a standard error falls with their root."""
    if not judgement.on_too_small_a_split or not judgement.allowed:
        return None
    return int(examples * (2 * ONE_SIDED * judgement.error / judgement.allowed) ** 2) + 1


def judge(
    evaluation: Evaluation,
    reference: Evaluation,
    budget: Budget,
    paired: tuple[float, float] | None,
    chance: Chance | None,
) -> Judgement:
    """paired: the reference's score minus the file's on the same examples, with its standard error, in the metric's
    unit; None where they were not compared. chance: of the metric; None where it is not known.
    """
    loss, error = (0.0, 0.0) if evaluation.id == reference.id else paired or _unpaired(evaluation, reference)
    loss, error = 100 * loss, 100 * error
    return Judgement(
        evaluation,
        latency=budget.verdict(evaluation.latency),
        drop=drop_verdict(loss, error, budget.max_drop) if budget.max_drop is not None else None,
        loss=loss,
        error=error,
        allowed=budget.max_drop,
        excess=budget.excess(evaluation.latency),
        keeps_lead=keeps_half_the_lead(evaluation.score.val, reference.score, chance),
    )


def most_accurate_first(files: Sequence[Judgement]) -> list[Judgement]:
    return sorted(files, key=lambda j: (-j.evaluation.score.val, j.evaluation.latency.ratio, j.evaluation.size_bytes))


def fastest_first(files: Sequence[Judgement]) -> list[Judgement]:
    return sorted(files, key=lambda j: (j.evaluation.latency.ratio, -j.evaluation.score.val, j.evaluation.size_bytes))


def _unpaired(evaluation: Evaluation, reference: Evaluation) -> tuple[float, float]:
    """As if both scores were of different examples, which makes the error too large."""
    halves = ((score.val_high - score.val_low) / 2 / HALF_INTERVAL for score in (evaluation.score, reference.score))
    return reference.score.val - evaluation.score.val, sum(half**2 for half in halves) ** 0.5

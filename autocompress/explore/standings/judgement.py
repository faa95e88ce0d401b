"""What a file is worth recommending for: the verdicts on its latency and its loss of score. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from autocompress.budget import Budget
from autocompress.evaluation import Chance, Evaluation, keeps_half_the_lead
from autocompress.group_losses import GroupLosses
from autocompress.score_scale import IN_PERCENT, POINTS, ScoreScale
from autocompress.verdict import Verdict, drop_verdict, too_small_a_split


@dataclass(frozen=True)
class Judgement:
    """latency: whether the budget of latency is kept, None without one. drop: whether the score is, None where any loss
    is allowed. classes: whether each class keeps its own, None where that does not matter. size: whether the file is
    small enough, memory: whether it takes little enough, None where any does. by_class: what each class loses, None
    where that was not compared. loss: points of score below the reference's on the same examples; error: its standard
    error. allowed: as much as may be lost, None for any. asked: whether somebody said how much. excess: how far over
    the budget of latency, as a share of it. keeps_lead: whether it keeps half of what the reference is better than
    chance. runs: whether it does on the target, as far as is known.
    """

    evaluation: Evaluation
    latency: Verdict | None
    drop: Verdict | None
    classes: Verdict | None
    size: Verdict | None
    memory: Verdict | None
    loss: float
    error: float
    allowed: float | None
    asked: bool
    excess: float
    keeps_lead: bool
    by_class: GroupLosses | None = None
    runs: bool = True

    @property
    def worth(self) -> bool:
        """Whether it is worth having at all; what was asked for is."""
        return self.keeps_lead or self.asked

    @property
    def is_over(self) -> bool:
        """Whether it is known to be over the budget of latency."""
        return self.latency is not None and self.latency.answer == "not met"

    @property
    def keeps_latency(self) -> bool:
        return self.latency is None or self.latency.met

    @cached_property
    def keeps_score(self) -> bool:
        """Whether the loss is known to be allowed; on a split that is too small to tell, whether it probably is."""
        if self.drop is None or self.drop.met or self.allowed is None:
            return self.drop is None or self.drop.met
        return too_small_a_split(self.error, self.allowed) and self.loss + self.error <= self.allowed

    @property
    def keeps_classes(self) -> bool:
        """Whether it was seen that no class surely loses more than is allowed."""
        if self.classes is None or self.by_class is None:
            return self.classes is None
        return self.classes.answer != "not met"

    @property
    def fits(self) -> bool:
        """Whether the target can take the file."""
        return self.runs and all(verdict is None or verdict.met for verdict in (self.size, self.memory))

    @property
    def recommendable(self) -> bool:
        return self.keeps_classes and self.recommendable_but_for_classes

    @property
    def recommendable_but_for_classes(self) -> bool:
        """Whether it is, or may be once its classes are compared."""
        uncompared = self.classes is not None and self.by_class is None
        kept = self.keeps_latency and self.keeps_score and (uncompared or self.keeps_classes)
        return kept and self.fits and self.worth and self.evaluation.score.whole

    @property
    def possible(self) -> bool:
        """Whether it is within the budget of latency as far as is known, and its loss, compared on the same examples,
        may be allowed.
        """
        within = self.keeps_latency or (self.latency is not None and not self.latency.decided and self.excess <= 0)
        kept = all(verdict is None or verdict.answer != "not met" for verdict in (self.drop, self.classes))
        return within and kept and self.fits and self.worth and self.evaluation.score.whole

    @property
    def hopeful(self) -> bool:
        """Whether further sessions may well show that it is recommendable."""
        return self.possible and self.keeps_score


def judge(
    evaluation: Evaluation,
    reference: Evaluation,
    budget: Budget,
    paired: tuple[float, float] | None,
    chance: Chance | None,
    examples: int,
    scale: ScoreScale = IN_PERCENT,
    *,
    by_class: GroupLosses | None = None,
    runs: bool = True,
) -> Judgement:
    """paired: the reference's score minus the file's on the same examples, with its standard error, in the metric's
    unit; None where they were not compared. by_class: what it loses in each class, None likewise. chance: of
    the metric; None where it is not known. examples: that validate.
    """
    loss, error = (0.0, 0.0) if evaluation.id == reference.id else paired or _unpaired(evaluation, reference)
    loss, error, allowed = POINTS * loss, POINTS * error, budget.allowed_drop
    return Judgement(
        evaluation,
        latency=budget.verdict(evaluation.latency),
        drop=None if allowed is None else drop_verdict(loss, error, allowed, examples, scale),
        classes=budget.class_verdict(by_class, scale) if evaluation.recipe.changes else None,
        by_class=by_class,
        size=budget.size_verdict(evaluation.size_bytes),
        memory=budget.memory_verdict(evaluation.memory_bytes),
        loss=loss,
        error=error,
        allowed=allowed,
        asked=budget.max_drop is not None,
        excess=budget.excess(evaluation.latency),
        keeps_lead=keeps_half_the_lead(evaluation.score.val, reference.score, chance),
        runs=runs,
    )


def most_accurate_first(files: Sequence[Judgement]) -> list[Judgement]:
    return sorted(files, key=lambda j: (-j.evaluation.score.val, j.evaluation.latency.ratio, j.evaluation.size_bytes))


def fastest_first(files: Sequence[Judgement]) -> list[Judgement]:
    return sorted(files, key=lambda j: (j.evaluation.latency.ratio, -j.evaluation.score.val, j.evaluation.size_bytes))


def _unpaired(evaluation: Evaluation, reference: Evaluation) -> tuple[float, float]:
    """As if both scores were of different examples, which makes the error too large."""
    own, other = evaluation.score, reference.score
    return other.val - own.val, math.hypot(own.error, other.error)

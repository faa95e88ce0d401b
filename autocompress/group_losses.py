"""What a compressed model loses in each group of examples, and which of them lose more than the average says. Pure.

An average hides whom compression hurts: pruned and quantized models lose on few classes and rare examples first (Hooker
et al., "What Do Compressed Deep Neural Networks Forget?", arXiv 1911.05248). So many groups are looked at that some
seem to lose by chance: limits are Holm's (Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
Journal of Statistics 6, 1979), one-sided, 95 % for all groups together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from autocompress.score_scale import IN_PERCENT, POINTS, ScoreScale
from autocompress.verdict import Verdict

FEWEST_EXAMPLES = 10  # of a group, of which anything can be said
WRONG = 0.05  # how often a group of all of them may be named by chance
NOTABLE = 0.01  # of the metric, that a group has to lose more than the whole to be named


@dataclass(frozen=True)
class GroupLoss:
    """reference, own: scores of both files on the examples of a group, higher is better. loss: the reference's minus
    its own, error: its standard error, both in the metric's unit, paired.
    """

    name: str
    examples: int
    reference: float
    own: float
    loss: float
    error: float

    @property
    def points(self) -> float:
        return POINTS * self.loss


@dataclass(frozen=True)
class GroupLosses:
    """by: what the groups are: "class", "tenth of the target", or "group" where the task names them."""

    by: str
    rows: tuple[GroupLoss, ...]

    @property
    def told(self) -> Sequence[GroupLoss]:
        """The groups that are large enough to say anything of, the one that lost most first."""
        return sorted((g for g in self.rows if g.examples >= FEWEST_EXAMPLES), key=lambda g: -g.loss)

    @property
    def too_few(self) -> Sequence[GroupLoss]:
        return [g for g in self.rows if g.examples < FEWEST_EXAMPLES]

    def losing_more_than(self, loss: float) -> list[GroupLoss]:
        """The groups that surely lose more than so much of the metric, most surely first: Holm's procedure."""
        told = [(NormalDist().cdf(-(g.loss - loss) / max(g.error, 1e-12)), g) for g in self.told]
        found: list[GroupLoss] = []
        for number, (chance, group) in enumerate(sorted(told, key=lambda pair: pair[0])):
            if chance > WRONG / (len(told) - number):
                break
            found.append(group)
        return found

    def hidden(self, whole: float) -> list[GroupLoss]:
        """The groups that surely lose more than all examples together, and notably so. whole: what these lose."""
        return [g for g in self.losing_more_than(max(whole, 0.0)) if g.loss - max(whole, 0.0) >= NOTABLE]

    def verdict(self, allowed: float, scale: ScoreScale = IN_PERCENT) -> Verdict:
        """Whether every group loses at most so many points. Not met where one surely loses more; met where each surely
        does not.
        """
        told = self.told
        if not told:
            return Verdict("undecided", f"no {self.by} has {FEWEST_EXAMPLES} examples")
        times = NormalDist().inv_cdf(1 - WRONG / len(told))
        over = self.losing_more_than(allowed / POINTS)
        least = max(told, key=lambda g: g.loss - times * g.error)
        worst = max(told, key=lambda g: g.loss + times * g.error)
        shown = over[0] if over else worst
        change = f"{'loses' if shown.loss >= 0 else 'gains'} {scale.points(abs(shown.points), '.2f')}"
        found = (
            f"{self.by} {shown.name} {change}, give or take {POINTS * times * shown.error:.2f}; {allowed:g} may be lost"
        )
        if over or least.points - POINTS * times * least.error > allowed:
            return Verdict("not met", found)
        if worst.points + POINTS * times * worst.error <= allowed:
            return Verdict("met", found)
        return Verdict("undecided", f"{found}: no {self.by} surely loses more")

    def to_json(self) -> dict[str, Any]:
        return {"by": self.by, "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GroupLosses":
        return cls(value["by"], tuple(GroupLoss(**row) for row in value["rows"]))

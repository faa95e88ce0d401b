"""What a compressed model loses in each group of examples, and which of them lose more than the average says. Pure.

An average hides whom compression hurts: pruned and quantized models lose on few classes and rare examples first (Hooker
et al., "What Do Compressed Deep Neural Networks Forget?", arXiv 1911.05248). So many groups are looked at that some
seem to lose by chance: limits are Holm's (Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
Journal of Statistics 6, 1979), one-sided, 95 % for all groups together.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

from autocompress.score_scale import IN_PERCENT, POINTS, ScoreScale
from autocompress.verdict import ONE_SIDED, Verdict, surely_at_most

FEWEST_EXAMPLES = 10  # of a group, of which anything can be said
WRONG = 0.05  # how often a group of all of them may be named by chance
NOTABLE = 0.01  # of the metric: a point, that a group has to lose more than the whole to be named


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
    """by: what the groups are: "class", "tenth of the target", "length", or "group" where the task names them. rows:
    those with at least FEWEST_EXAMPLES. too_few: the names of the others, of which nothing can be said.
    """

    by: str
    rows: tuple[GroupLoss, ...]
    too_few: tuple[str, ...] = ()

    @property
    def worst_first(self) -> list[GroupLoss]:
        return sorted(self.rows, key=lambda group: -group.loss)

    def losing_more_than(self, loss: float) -> list[GroupLoss]:
        """The groups that surely lose more than so much of the metric, most surely first: Holm's procedure."""
        told = [(NormalDist().cdf(-(g.loss - loss) / max(g.error, 1e-12)), g) for g in self.rows]
        found: list[GroupLoss] = []
        for number, (chance, group) in enumerate(sorted(told, key=lambda pair: pair[0])):
            if chance > WRONG / (len(told) - number):
                break
            found.append(group)
        return found

    def hidden(self, whole: float) -> list[GroupLoss]:
        """The groups that surely lose a point more than all examples together. whole: what these lose."""
        return self.losing_more_than(max(whole, 0.0) + NOTABLE)

    def verdict(self, allowed: float, scale: ScoreScale = IN_PERCENT) -> Verdict:
        """Whether every group loses at most so many points. Not met where one surely loses more, as many as there are;
        met where each one surely does not.
        """
        if not self.rows:
            return Verdict("undecided", f"no {self.by} has {FEWEST_EXAMPLES} examples")
        over = self.losing_more_than(allowed / POINTS)
        shown = over[0] if over else max(self.rows, key=lambda g: g.loss + ONE_SIDED * g.error)
        change = f"{'loses' if shown.loss >= 0 else 'gains'} {scale.points(abs(shown.points), '.2f')}"
        found, high = f"{self.by} {shown.name} {change}", shown.points + POINTS * ONE_SIDED * shown.error
        if over:
            return Verdict("not met", f"{found}, surely more than allowed; {allowed:g} may be lost")
        if high <= allowed:
            return Verdict("met", f"{found}, and {surely_at_most(high)}; {allowed:g} may be lost")
        found = f"{found}, and may lose {high:.2f}, where {allowed:g} may be lost"
        return Verdict("undecided", f"{found}: no {self.by} surely loses more")

    def to_json(self) -> dict[str, Any]:
        return {"by": self.by, "rows": [asdict(row) for row in self.rows], "too_few": list(self.too_few)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "GroupLosses":
        return cls(value["by"], tuple(GroupLoss(**row) for row in value["rows"]), tuple(value["too_few"]))

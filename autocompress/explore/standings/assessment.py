"""How good files and families are, by what was measured of them: pure functions of the objective, the measurements and
a family, each worked out once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from autocompress.evaluation import Evaluation
from autocompress.explore.history.facts import Fact
from autocompress.explore.history.family import Family
from autocompress.explore.standings.front import Point, best_first, hypervolume
from autocompress.explore.standings.measurements import Measurements
from autocompress.explore.standings.objective import Objective, point


@dataclass(frozen=True)
class Standing:
    """How a family stands among the others. latest, best: of the files of its last rung and of all its rungs the one
    that counts. best_point: for deciding where to spend time. excess: how far ``best`` is expected to be over the
    budget that steers, as a share of it. feasible: the most accurate of its files that meet the user's budget.
    """

    latest: Evaluation
    best: Evaluation
    best_point: Point
    excess: float
    feasible: Evaluation | None

    @property
    def within(self) -> bool:
        return self.excess <= 0


@dataclass(frozen=True)
class Assessment:
    """A value: new measurements make a new one, which has to work out again what they change."""

    objective: Objective
    measured: Measurements
    _standings: dict[Family, Standing] = field(default_factory=dict, compare=False)

    def after(self, fact: Fact) -> "Assessment":
        measured = self.measured.after(fact)
        if measured is self.measured:
            return self
        if measured.tests is not self.measured.tests:
            return Assessment(self.objective, measured)
        changed = measured.timed_anew(self.measured)
        if not changed:
            return Assessment(self.objective, measured, self._standings)
        kept = {f: known for f, known in self._standings.items() if changed.isdisjoint(e.graph for e in f.evaluations)}
        return Assessment(self.objective, measured, kept)

    def standing(self, family: Family) -> Standing:
        """How a family stands."""
        found = self._standings.get(family)
        if found is None:
            found = self._standings[family] = self._standing(family)
        return found

    def untrained_point(self, family: Family) -> Point:
        """A family's point for deciding where to spend time, of its first files."""
        return self.objective.clipped(self.best_of(family.outcomes[0].evaluations))

    def best_of(self, evaluations: Sequence[Evaluation]) -> Evaluation:
        """Of a family's files the most accurate within the budget, else the fastest; without a budget the one that
        alone has most hypervolume.
        """
        files, steering = list(map(self.measured.current, evaluations)), self.objective.steering
        if not steering.bounded:
            reference = self.objective.reference.score.val
            return max(files, key=lambda e: (hypervolume([point(e)], reference), e.score.val))
        within = [e for e in files if steering.excess(e.latency) <= 0]
        if within:
            return max(within, key=lambda e: e.score.val)
        return min(files, key=lambda e: e.latency.ratio)

    def best_first(self, families: Sequence[Family]) -> list[Family]:
        """By Pareto rank and hypervolume gain, under a budget by score."""
        points = [self.standing(f).best_point for f in families]
        return [families[i] for i in best_first(points, self.objective.reference.score.val)]

    def _standing(self, family: Family) -> Standing:
        best = self.best_of(family.evaluations)
        latest = self.best_of(family.latest.evaluations)
        files = map(self.measured.current, family.evaluations)
        return Standing(
            latest=latest,
            best=best,
            best_point=self.objective.clipped(best),
            excess=self.objective.steering.excess(best.latency),
            feasible=self.objective.best_feasible(files),
        )

"""Which families are worth more time, and which of them most."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from autocompress.explore.history.facts import Evaluated, Fact, Failed
from autocompress.explore.history.family import Family
from autocompress.explore.standings.assessment import Assessment
from autocompress.recipe import TRAIN

MOST_CONTENDERS = 300  # families that may be trained on, at most; the worst of more than that are out of it
EXTRA_CONTENDERS = 100  # more than that, before the worst are told apart


@dataclass(frozen=True)
class Contenders:
    """A value: each fact makes the next one. pool: the families that may be trained on, and those of recipes that train
    nothing, by id, in the order of their last evaluation. untrainable: families whose training failed, and would again.
    """

    assessment: Assessment
    pool: Mapping[str, Family] = field(default_factory=dict)
    untrainable: frozenset[str] = frozenset()

    def after(self, fact: Fact, families: Mapping[str, Family], assessment: Assessment) -> "Contenders":
        """families, assessment: after the same fact."""
        known = self if assessment is self.assessment else replace(self, assessment=assessment)
        match fact:
            case Evaluated(recipe, outcome):
                failed = {failed.id for failed, *_ in outcome.failed if failed == recipe}
                return known._without(recipe.id, failed)._with(families[recipe.id])
            case Failed(recipe):
                return known._without(recipe.id, {recipe.id})
        return known

    @cached_property
    def all(self) -> list[Family]:
        """Those within the budget, as long as there are any."""
        families = list(self.pool.values())
        return [f for f in families if self.assessment.standing(f).within] or families

    @cached_property
    def best_first(self) -> list[Family]:
        return self.assessment.best_first(self.all)

    def _without(self, identifier: str, untrainable: set[str]) -> "Contenders":
        pool = {name: family for name, family in self.pool.items() if name != identifier}
        return replace(self, pool=pool, untrainable=self.untrainable | untrainable)

    def _with(self, family: Family) -> "Contenders":
        can = family.trains or family.recipe.step(TRAIN) is None
        if not can or family.id in self.untrainable:
            return self
        pool = {**self.pool, family.id: family}
        if len(pool) > MOST_CONTENDERS + EXTRA_CONTENDERS:
            pool = {f.id: f for f in self.assessment.best_first(list(pool.values()))[:MOST_CONTENDERS]}
        return replace(self, pool=pool)

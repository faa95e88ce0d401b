"""Graph variants that are not worth making, because they make no file faster."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from autocompress.evaluation import Outcome
from autocompress.explore.history.facts import Evaluated, Fact
from autocompress.recipe import Recipe, Step

ALWAYS_SLOWER = 3  # families in which a graph variant was slower, after which it is not made any more


@dataclass(frozen=True)
class SlowerVariants:
    """A value: each fact makes the next one. useful: made some file faster. slower_in: of each that was slower than the
    float file the families in which it was.
    """

    useful: frozenset[Step]
    slower_in: Mapping[Step, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, reference_family: Outcome) -> "SlowerVariants":
        return cls(_faster(reference_family))

    def after(self, fact: Fact) -> "SlowerVariants":
        if not isinstance(fact, Evaluated):
            return self
        slower_in, none = dict(self.slower_in), frozenset[str]()
        for variant in (rejected.recipe.variant for rejected in fact.outcome.slower):
            if variant is not None:
                slower_in[variant] = slower_in.get(variant, none) | {fact.recipe.id}
        return SlowerVariants(self.useful | _faster(fact.outcome), slower_in)

    def of_family(self, family: Recipe) -> tuple[Step, ...]:
        """Variants that would be no faster than the float file of this family either: they were not at an earlier rung,
        or in no family that was trained so far, of three at least, nor of the reference.
        """
        return tuple(
            variant
            for variant, families in self.slower_in.items()
            if family.id in families or (len(families) >= ALWAYS_SLOWER and variant not in self.useful)
        )


def _faster(outcome: Outcome) -> frozenset[Step]:
    return frozenset(e.recipe.variant for e in outcome.evaluations if e.recipe.variant)

"""What was tried so far, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from autocompress.evaluation import Rejected
from autocompress.explore.history.facts import Evaluated, Fact, Failed
from autocompress.explore.history.family import Family
from autocompress.recipe import Recipe


@dataclass(frozen=True)
class Tried:
    """A value: each fact makes the next one. families: by id, in the order they were first evaluated. rejected, failed:
    structures and files. ended: recipes that are not tried again. files: evaluated, the reference's included.
    """

    files: int
    families: Mapping[str, Family] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()
    failed: tuple[Failed, ...] = ()
    ended: frozenset[Recipe] = frozenset()

    def after(self, fact: Fact) -> "Tried":
        match fact:
            case Evaluated(recipe, outcome):
                before = self.families.get(recipe.id)
                family = before.after(outcome) if before else Family(recipe, (outcome,))
                return Tried(
                    files=self.files + len(outcome.evaluations),
                    families={**self.families, family.id: family},
                    rejected=(*self.rejected, *outcome.slower, *outcome.hopeless),
                    failed=(*self.failed, *(Failed(*failure) for failure in outcome.failed)),
                    ended=self.ended | {recipe},
                )
            case Rejected(recipe):
                return replace(self, rejected=(*self.rejected, fact), ended=self.ended | {recipe})
            case Failed(recipe):
                return replace(self, failed=(*self.failed, fact), ended=self.ended | {recipe})
        return self

    @cached_property
    def trained_on(self) -> tuple[Family, ...]:
        """The families that were trained more than once."""
        return tuple(f for f in self.families.values() if len(f.trained) > 1)

"""Every evaluated file, at its latest measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from autocompress.evaluation import Evaluation
from autocompress.explore.history.family import Family
from autocompress.explore.opening.opening import Opening
from autocompress.explore.standings.measurements import Measurements
from autocompress.latency import Latency


@dataclass(frozen=True)
class Candidates:
    """The files of the reference and of families, by what was measured of them."""

    opening: Opening
    families: Mapping[str, Family]
    measured: Measurements

    @cached_property
    def all(self) -> tuple[Evaluation, ...]:
        """The reference first, then its variants, then family by family."""
        families = (self.measured.current(e, family) for family in self.families.values() for e in family.evaluations)
        return (*self.own, *families)

    @property
    def own(self) -> tuple[Evaluation, ...]:
        """The reference and its variants."""
        variants = (self.measured.current(e, None) for e in self.opening.reference_family.evaluations)
        return (self.reference, *variants)

    @property
    def reference(self) -> Evaluation:
        """It counts however disturbed its measurement was: its ratio is one by definition."""
        current = self.measured.current(self.opening.reference, None)
        return replace(current, latency=replace(current.latency, reliable=True))

    def family_of(self, evaluation: Evaluation) -> Family | None:
        """None for a file of the reference."""
        return self.families.get(evaluation.recipe.family.id)

    def expected(self, evaluation: Evaluation) -> Latency:
        """How long a file's graph takes, by all measurements of it."""
        return self.measured.expected(evaluation, self.family_of(evaluation))

    def current(self, evaluation: Evaluation) -> Evaluation:
        """A file at its latest measurement."""
        return self.measured.current(evaluation, self.family_of(evaluation))

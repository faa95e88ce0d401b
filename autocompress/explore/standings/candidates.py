"""Every evaluated file, at its latest measurement."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from autocompress.evaluation import Evaluation
from autocompress.explore.history.family import Family
from autocompress.explore.opening.opening import Opening
from autocompress.explore.standings.measurements import Measurements


@dataclass(frozen=True)
class Candidates:
    """The files of the reference and of families, by what was measured of them."""

    opening: Opening
    families: Mapping[str, Family]
    measured: Measurements

    @cached_property
    def all(self) -> tuple[Evaluation, ...]:
        """The reference first, then its variants, then family by family."""
        return tuple(map(self.measured.current, self._files))

    @property
    def own(self) -> tuple[Evaluation, ...]:
        """The reference and its variants."""
        return tuple(map(self.measured.current, self._own))

    @cached_property
    def judged(self) -> tuple[Evaluation, ...]:
        """All, as they are reported."""
        run = self.measured.run()
        return tuple(self.measured.judged(e, run) for e in self._files)

    def family_of(self, evaluation: Evaluation) -> Family | None:
        """None for a file of the reference."""
        return self.families.get(evaluation.recipe.family.id)

    def current(self, evaluation: Evaluation) -> Evaluation:
        """A file at its latest measurement."""
        return self.measured.current(evaluation)

    @property
    def _own(self) -> tuple[Evaluation, ...]:
        return self.opening.reference, *self.opening.reference_family.evaluations

    @property
    def _files(self) -> tuple[Evaluation, ...]:
        return *self._own, *(e for family in self.families.values() for e in family.evaluations)

"""All that is known after some facts of a history."""

from dataclasses import dataclass
from functools import cached_property

from autocompress.budget import Budget
from autocompress.evaluation import Evaluation
from autocompress.explore.history.facts import Fact
from autocompress.explore.opening.opening import Opening
from autocompress.explore.standings.assessment import Assessment
from autocompress.explore.standings.best_files import BestFiles
from autocompress.explore.standings.candidates import Candidates
from autocompress.explore.standings.contenders import Contenders
from autocompress.explore.standings.measurements import Measurements
from autocompress.explore.standings.objective import Objective
from autocompress.explore.standings.slower_variants import SlowerVariants
from autocompress.explore.standings.tried import Tried


@dataclass(frozen=True)
class Known:
    """A value, of which each further fact makes the next one: nothing that was worked out of it is ever out of date."""

    objective: Objective
    tried: Tried
    variants: SlowerVariants
    assessment: Assessment
    contenders: Contenders
    candidates: Candidates
    best: BestFiles

    @classmethod
    def at_first(cls, opening: Opening, budget: Budget) -> "Known":
        """Before the first fact."""
        objective = Objective(budget, opening.reference)
        tried, assessment = (
            Tried(1 + len(opening.reference_family.evaluations)),
            Assessment(objective, Measurements.of(opening)),
        )
        candidates = Candidates(opening, tried.families, assessment.measured)
        return cls(
            objective=objective,
            tried=tried,
            variants=SlowerVariants.of(opening.reference_family),
            assessment=assessment,
            contenders=Contenders(assessment),
            candidates=candidates,
            best=BestFiles.of(candidates, objective),
        )

    def after(self, fact: Fact) -> "Known":
        """After one fact more."""
        tried, assessment = self.tried.after(fact), self.assessment.after(fact)
        candidates = Candidates(self.candidates.opening, tried.families, assessment.measured)
        timed_anew = bool(assessment.measured.timed_anew(self.assessment.measured))
        return Known(
            objective=self.objective,
            tried=tried,
            variants=self.variants.after(fact),
            assessment=assessment,
            contenders=self.contenders.after(fact, tried.families, assessment),
            candidates=candidates,
            best=self.best.after(fact, candidates, self.objective, timed_anew=timed_anew),
        )

    @cached_property
    def front(self) -> tuple[Evaluation, ...]:
        """The candidates nothing dominates, the fastest first."""
        return tuple(map(self.candidates.current, self.best.front))

    @cached_property
    def best_feasible(self) -> Evaluation | None:
        """The most accurate feasible candidate of the front; when none of the front is feasible, of all."""
        found = self.objective.best_feasible(self.front)
        if found is not None:
            return found
        families = (self.assessment.standing(family).feasible for family in self.tried.families.values())
        return self.objective.best_feasible((*self.candidates.own, *(e for e in families if e is not None)))

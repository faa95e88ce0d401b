"""The front of the files evaluated so far, followed as they come."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autocompress.evaluation import Evaluation
from autocompress.explore.history.facts import Evaluated, Fact, FinalMeasured, MeasurableAgain, RepeatMeasured
from autocompress.explore.standings.candidates import Candidates
from autocompress.explore.standings.front import pareto
from autocompress.explore.standings.objective import Objective, point

Files = tuple[Evaluation, ...]


@dataclass(frozen=True)
class BestFiles:
    """A value: each fact makes the next one. front: of the files measured soundly those that nothing dominates, the
    fastest first. provisional: the same of all files, as if every measurement were right. lossless: the ratio, at the
    upper end of its interval, of the fastest file that loses nothing; None when none is known.

    Of equal points the one that is on the front stays. Where measurements of earlier files change, all are compared
    again; then the first candidate stays.
    """

    front: Files
    provisional: Files
    lossless: float | None

    @classmethod
    def of(cls, candidates: Candidates, objective: Objective) -> "BestFiles":
        opening = candidates.opening
        own = [opening.reference, *opening.reference_family.evaluations]
        return _compared(candidates.all, _lossless(own, objective))

    def after(self, fact: Fact, candidates: Candidates, objective: Objective) -> "BestFiles":
        """candidates: after the same fact."""
        match fact:
            case Evaluated(recipe, outcome):
                lossless = _lossless(outcome.evaluations, objective, self.lossless)
                family = candidates.families[recipe.id]
                if not family.undisturbed:
                    return _compared(candidates.all, lossless)
                new = [candidates.measured.current(e, family) for e in outcome.evaluations]
                return BestFiles(_front((*self.front, *new)), _nondominated((*self.provisional, *new)), lossless)
            case RepeatMeasured() | FinalMeasured() | MeasurableAgain():
                return _compared(candidates.all, self.lossless)
        return self


def _compared(files: Sequence[Evaluation], lossless: float | None) -> BestFiles:
    return BestFiles(_front(files), _nondominated(files), lossless)


def _front(files: Iterable[Evaluation]) -> Files:
    return _nondominated([e for e in files if e.latency.reliable])


def _nondominated(files: Sequence[Evaluation]) -> Files:
    return tuple(files[i] for i in pareto([point(e) for e in files]))


def _lossless(files: Iterable[Evaluation], objective: Objective, known: float | None = None) -> float | None:
    ratios = [e.latency.ratio_high for e in files if objective.loses_nothing(e)]
    return min(ratios if known is None else [known, *ratios], default=None)

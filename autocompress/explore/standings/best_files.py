"""The front of the files evaluated so far, followed as they come."""

from collections.abc import Iterable
from dataclasses import dataclass

from autocompress.evaluation import Evaluation
from autocompress.explore.history.facts import Evaluated, Fact
from autocompress.explore.standings.candidates import Candidates
from autocompress.explore.standings.front import pareto
from autocompress.explore.standings.objective import Objective, point

Files = tuple[Evaluation, ...]


@dataclass(frozen=True)
class BestFiles:
    """A value: each fact makes the next one. front: those that nothing dominates, the fastest first. lossless: the
    ratio, at the upper end of its interval, of the fastest file that loses nothing; None when none is known.

    Of equal points the one that is on the front stays. Where graphs of earlier files are timed further, all are
    compared again; then the first candidate stays.
    """

    front: Files
    lossless: float | None

    @classmethod
    def of(cls, candidates: Candidates, objective: Objective) -> "BestFiles":
        return cls(_nondominated(candidates.all), _lossless(candidates.all, objective))

    def after(self, fact: Fact, candidates: Candidates, objective: Objective, *, timed_anew: bool) -> "BestFiles":
        """candidates: after the same fact. timed_anew: whether it changed the latency of earlier files."""
        new: Files = fact.outcome.evaluations if isinstance(fact, Evaluated) else ()
        if timed_anew:
            return BestFiles(_nondominated(candidates.all), _lossless(candidates.all, objective))
        if not new:
            return self
        current = list(map(candidates.current, new))
        return BestFiles(_nondominated([*self.front, *current]), _lossless(current, objective, self.lossless))


def _nondominated(files: Iterable[Evaluation]) -> Files:
    """Of those that were scored on all examples: what a sample alone was told of was dominated then."""
    whole = [e for e in files if e.score.whole]
    return tuple(whole[i] for i in pareto([point(e) for e in whole]))


def _lossless(files: Iterable[Evaluation], objective: Objective, known: float | None = None) -> float | None:
    ratios = [e.latency.ratio_high for e in files if objective.loses_nothing(e)]
    return min(ratios if known is None else [known, *ratios], default=None)

"""Which file is recommended, and what came nearest where none can be. Pure."""

from collections.abc import Callable

from autocompress.evaluation import Evaluation
from autocompress.explore.standings.front import WITHIN
from autocompress.explore.standings.standings import Standings


def recommendable(standings: Standings) -> list[Evaluation]:
    """The feasible files that were measured at the end, and the reference, the best first: under a budget those that
    may be as good as the most accurate one, without one the fastest alone.
    """
    measured = {"reference", *standings.final}
    within = [e for e in standings.candidates() if standings.feasible(e) and e.id in measured]
    ordered = sorted(within, key=preference(standings))
    if not standings.budget.bounded:
        return ordered[:1]
    return [e for e in ordered if e.score.val >= ordered[0].score.val - WITHIN - 1e-9]


def preference(standings: Standings) -> Callable[[Evaluation], tuple[float, float]]:
    """Sorts what is feasible: under a budget the most accurate first, without one the fastest."""
    if standings.budget.bounded:
        return lambda e: (-e.score.val, e.latency.ratio)
    return lambda e: (e.latency.ratio, -e.score.val)


def nearest(standings: Standings) -> Evaluation:
    """What came nearest to the budget when nothing meets it: of those fast enough the most accurate, else the
    fastest.
    """
    sound = [e for e in standings.candidates() if e.latency.reliable] or standings.candidates()
    fast = [e for e in sound if standings.budget.excess(e.latency) <= 0]
    return (
        max(fast, key=lambda e: e.score.val) if fast else min(sound, key=lambda e: standings.budget.excess(e.latency))
    )

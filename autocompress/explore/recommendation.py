"""Which file is recommended, and what came nearest where none can be. Pure."""

from collections.abc import Callable

from autocompress.evaluation import Evaluation
from autocompress.explore.front import WITHIN
from autocompress.explore.ledger import Ledger


def recommendable(ledger: Ledger) -> list[Evaluation]:
    """The feasible files that were measured at the end, and the reference, the best first: under a budget those that
    may be as good as the most accurate one, without one the fastest alone.
    """
    within = [e for e in ledger.candidates() if ledger.feasible(e) and (e.id in ledger.final or e.id == "reference")]
    ordered = sorted(within, key=preference(ledger))
    if not ledger.budget.bounded:
        return ordered[:1]
    return [e for e in ordered if e.score.val >= ordered[0].score.val - WITHIN - 1e-9]


def preference(ledger: Ledger) -> Callable[[Evaluation], tuple[float, float]]:
    """Sorts what is feasible: under a budget the most accurate first, without one the fastest."""
    if ledger.budget.bounded:
        return lambda e: (-e.score.val, e.latency.ratio)
    return lambda e: (e.latency.ratio, -e.score.val)


def nearest(ledger: Ledger) -> Evaluation:
    """What came nearest to the budget when nothing meets it: of those fast enough the most accurate, else the
    fastest.
    """
    sound = [e for e in ledger.candidates() if e.latency.reliable] or ledger.candidates()
    fast = [e for e in sound if ledger.budget.excess(e.latency) <= 0]
    return max(fast, key=lambda e: e.score.val) if fast else min(sound, key=lambda e: ledger.budget.excess(e.latency))

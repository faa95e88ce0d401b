"""Whether a budget can be met."""

from typing import Any

from autocompress.budget import Budget
from autocompress.explore.opening.floor import Floor, meets
from autocompress.explore.opening.opener import Opened

IN_REACH, OUT_OF_REACH, NOT_KNOWN, NO_BUDGET = "in reach", "out of reach", "not known", "no budget"


def reach(opened: Opened, budget: Budget) -> dict[str, Any]:
    """Whether the budget can be met, as far as was looked. met_by: the file of the unchanged model that does;
    floor_ms, floor_speedup: of the fastest model found of the space, where it was looked for. complete: whether there
    was time to look at all that might be faster.
    """
    unchanged = (opened.opening.reference, *opened.opening.reference_family.evaluations)
    within = [e for e in unchanged if budget.bounded and budget.excess(e.latency) <= 0]
    met_by = min(within, key=lambda e: e.latency.ratio).recipe.techniques() if within else None
    floor = opened.floor.found
    return {
        "budget": str(budget) if budget.bounded else None,
        "answer": _answer(opened.floor, budget, met=bool(within)),
        "met_by": met_by,
        "floor_ms": floor[1].statistic if floor else None,
        "floor_speedup": 1 / floor[1].ratio if floor else None,
        "complete": not opened.floor.cut_off,
    }


def _answer(floor: Floor, budget: Budget, *, met: bool) -> str:
    """Out of reach is what nothing in the space is fast enough for, and everything was looked at."""
    if not budget.bounded:
        return NO_BUDGET
    if met or (floor.found is not None and meets(budget, floor.found[1])):
        return IN_REACH
    return OUT_OF_REACH if floor.is_over and not floor.cut_off else NOT_KNOWN

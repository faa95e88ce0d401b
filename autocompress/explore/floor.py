"""The floor: the fastest model that a space allows, timed before anything is scored or trained."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from autocompress.candidate.bench import Gate, Request
from autocompress.errors import CandidateFailed
from autocompress.explore.admission import is_over
from autocompress.explore.ledger import Failed
from autocompress.explore.space import Space
from autocompress.recipe import Recipe

if TYPE_CHECKING:
    from autocompress.explore.driver import Search

TRAINED_S = 15.0  # training of the nearest model when nothing can meet the budget

Try = Callable[[Recipe], Awaitable[Gate]]


class Floor:
    """found: the fastest of the smallest structures, up to the first that meets the budget. gates: all that were timed
    in looking for it.
    """

    def __init__(self) -> None:
        self.found: tuple[Recipe, Gate] | None = None
        self.gates: dict[Recipe, Gate] = {}

    async def find(self, search: "Search") -> None:
        """Time the smallest structures and say whether the budget can be met, unless an earlier process did."""
        budget = search.settings.budget
        if not budget.bounded or search.record.get("can_be_met"):
            return

        async def gate(recipe: Recipe) -> Gate:
            self.gates[recipe] = await search.timed_gate(recipe, budget)
            return self.gates[recipe]

        self.found = await find_floor(search.space, gate, lambda gate: not is_over(budget, gate))
        if self.found is None:
            return
        latency = self.found[1].latency
        took = f"{latency.statistic:.4g} ms ({1 / latency.ratio:.1f}x faster than the reference)"
        if is_over(budget, self.found[1]):
            search.view.note(
                f"the budget of {budget} cannot be met here: the floor, the fastest model of this space, takes {took}"
            )
        else:
            search.record.set("can_be_met", True)
            search.view.note(f"the budget of {budget} can be met: the smallest structure takes {took}")

    async def is_above_budget(self, search: "Search") -> bool:
        """Whether even the fastest model of the space is over the budget; the nearest is then made and kept."""
        budget, ledger = search.settings.budget, search.ledger
        if self.found is None or any(budget.excess(e.latency) <= 0 for e in ledger.candidates()):
            return False
        recipe, gate = self.found
        if not is_over(budget, gate):
            return False
        free = min(e.latency.ratio for e in ledger.candidates())
        if gate.latency.ratio < free and recipe.steps and recipe.id not in ledger.families:
            request = Request(recipe, examples=search.lengths[0].examples, limit_s=TRAINED_S, plans=gate.plans)
            try:
                search.keep_event(recipe, await search.evaluate(request))
            except CandidateFailed as error:
                ledger.fail(Failed(recipe, error.strategy, error.reason))
        return True


async def find_floor(space: Space, gate: Try, enough: Callable[[Gate], bool]) -> tuple[Recipe, Gate] | None:
    """The fastest of the smallest structures the space allows, and of the model as it is; None when none can be built.

    They are gated the one of all strategies together first, until one is ``enough``. A step that finds nothing left to
    do, after what the others did, is left out.
    """
    found: list[tuple[Recipe, Gate]] = []
    for recipe in (*space.strongest(), Recipe()):
        built = await _built(space, recipe, gate)
        if built is not None:
            found.append(built)
            if enough(built[1]):
                break
    return min(found, key=lambda pair: pair[1].latency.ratio, default=None)


async def _built(space: Space, recipe: Recipe, gate: Try) -> tuple[Recipe, Gate] | None:
    """The structure that can be built of a recipe's steps, gated; None when that is none of its own."""
    while True:
        try:
            return recipe, await gate(recipe)
        except CandidateFailed as error:
            smaller = recipe.without(error.strategy or "")
            if smaller == recipe or not space.gated(smaller).steps:
                return None
            recipe = smaller

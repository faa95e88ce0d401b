"""The floor: the fastest model that a space allows, timed before anything is scored or trained."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autocompress.budget import Budget
from autocompress.candidate.request import Gate, Request
from autocompress.errors import CandidateFailed
from autocompress.explore.facts import Evaluated, Failed
from autocompress.explore.first_recipes import Try
from autocompress.explore.space import Space
from autocompress.latency import Latency
from autocompress.recipe import Recipe

if TYPE_CHECKING:
    from autocompress.explore.driver import Search

TRAINED_S = 15.0  # training of the nearest model when nothing can meet the budget


class Floor:
    """found: the fastest of the smallest structures, up to the first that meets the budget. answers: of all that were
    timed in looking for it.
    """

    def __init__(self, budget: Budget, stored: dict[str, Any] | None = None) -> None:
        self._budget = budget
        self.found: tuple[Recipe, Latency] | None = None
        self.answers: dict[Recipe, Gate | CandidateFailed] = {}
        if stored:
            self.found = Recipe.from_json(stored["recipe"]), Latency(**stored["latency"])

    async def find(self, search: "Search") -> None:
        """Time the smallest structures, unless an earlier process did, and say whether the budget can be met.

        Of each the fastest variant is timed: which is fastest on the reference is not known yet.
        """
        if self.found is not None or not self._budget.bounded:
            return

        async def gate(recipe: Recipe) -> Gate:
            try:
                self.answers[recipe] = answer = await search.timed_gate(recipe, Budget())
            except CandidateFailed as error:
                self.answers[recipe] = error
                raise
            return answer

        self.found = await find_floor(search.space, gate, self._meets)
        if self.found is None:
            return
        latency = self.found[1]
        took = f"{latency.statistic:.4g} ms ({1 / latency.ratio:.1f}x faster than the reference)"
        if self._is_over(latency):
            search.view.note(
                f"the budget of {self._budget} cannot be met here: the floor, the fastest model of this space, takes "
                f"{took}"
            )
        elif self._meets(latency):
            search.view.note(f"the budget of {self._budget} can be met: the smallest structure takes {took}")

    async def find_again(self, search: "Search", why: str) -> None:
        """Forget what was timed, and find it anew."""
        self.found, self.answers = None, {}
        if self._budget.bounded:
            search.view.note(f"{why}: the floor is timed again")
        await self.find(search)

    def to_json(self) -> dict[str, Any] | None:
        return self.found and {"recipe": self.found[0].to_json(), "latency": asdict(self.found[1])}

    async def is_above_budget(self, search: "Search") -> bool:
        """Whether even the fastest model of the space is over the budget; the nearest is then made and kept."""
        standings = search.standings
        if self.found is None or not self._is_over(self.found[1]):
            return False
        recipe, latency = self.found
        if any(self._budget.excess(e.latency) <= 0 for e in standings.candidates()):
            return False
        free = min(e.latency.ratio for e in standings.candidates())
        if latency.ratio < free and recipe.steps and not standings.ended(recipe):
            try:
                request = Request(recipe, examples=search.time.lengths[0].examples, limit_s=TRAINED_S)
                search.history.enter(Evaluated(recipe, await search.evaluate(request)))
            except CandidateFailed as error:
                search.history.enter(Failed(recipe, error.strategy, error.reason))
        return True

    def _meets(self, latency: Latency) -> bool:
        return latency.reliable and self._budget.excess(latency) <= 0

    def _is_over(self, latency: Latency) -> bool:
        return latency.reliable and self._budget.excluded(latency)


async def find_floor(space: Space, gate: Try, enough: Callable[[Latency], bool]) -> tuple[Recipe, Latency] | None:
    """The first of the smallest structures that is ``enough``, else the fastest of them and of the model as it is; None
    when none can be built.

    The one of all strategies together is gated first. A step that finds nothing left to do, after what the others did,
    is left out.
    """
    found: list[tuple[Recipe, Latency]] = []
    for recipe in (*space.strongest(), Recipe()):
        built = await _built(space, recipe, gate)
        if built is not None and enough(built[1]):
            return built
        found += [built] if built is not None else []
    return min(found, key=lambda pair: pair[1].ratio, default=None)


async def _built(space: Space, recipe: Recipe, gate: Try) -> tuple[Recipe, Latency] | None:
    """The structure that can be built of a recipe's steps, timed; None when that is none of its own."""
    while True:
        try:
            return recipe, (await gate(recipe)).latency
        except CandidateFailed as error:
            smaller = recipe.without(error.strategy or "")
            if smaller == recipe or not space.gated(smaller).steps:
                return None
            recipe = smaller

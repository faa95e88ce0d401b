"""The floor: the fastest model that a space allows, timed before anything is scored or trained."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from autocompress.budget import Budget
from autocompress.errors import CandidateFailed
from autocompress.explore.opening.first_recipes import Try
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.gating import Gating
from autocompress.explore.space.ladders import strongest_recipes
from autocompress.explore.space.space import Space
from autocompress.latency import Latency
from autocompress.recipe import Recipe


@dataclass(frozen=True)
class Floor:
    """found: the fastest of the smallest structures, up to the first that meets the budget; None without a budget, or
    when none can be built. answers: of all that were timed in looking for it.
    """

    budget: Budget
    found: tuple[Recipe, Latency] | None = None
    answers: Mapping[Recipe, Gate | CandidateFailed] = field(default_factory=dict)

    @classmethod
    def from_json(cls, budget: Budget, stored: dict[str, Any] | None) -> "Floor | None":
        """What an earlier process found, or None."""
        if not stored:
            return None
        return cls(budget, (Recipe.from_json(stored["recipe"]), Latency.from_json(stored["latency"])))

    def to_json(self) -> dict[str, Any] | None:
        return self.found and {"recipe": self.found[0].to_json(), "latency": asdict(self.found[1])}

    @property
    def is_over(self) -> bool:
        """Whether even the fastest model is over the budget."""
        return self.found is not None and is_over(self.budget, self.found[1])

    def note(self) -> str | None:
        """What a user should know of it."""
        if self.found is None:
            return None
        latency = self.found[1]
        took = f"{latency.statistic:.4g} ms ({1 / latency.ratio:.1f}x faster than the reference)"
        if self.is_over:
            return (
                f"the budget of {self.budget} cannot be met here: the floor, the fastest model of this space, takes "
                f"{took}"
            )
        if meets(self.budget, latency):
            return f"the budget of {self.budget} can be met: the smallest structure takes {took}"
        return None


def meets(budget: Budget, latency: Latency) -> bool:
    return latency.quiet and budget.excess(latency) <= 0


def is_over(budget: Budget, latency: Latency) -> bool:
    return latency.quiet and budget.excluded(latency)


async def time_floor(space: Space, gating: Gating, budget: Budget) -> Floor:
    """Time the smallest structures. Of each the fastest variant is timed: which is fastest on the reference is not
    known yet.
    """
    if not budget.bounded:
        return Floor(budget)
    answers: dict[Recipe, Gate | CandidateFailed] = {}

    async def gate(recipe: Recipe) -> Gate:
        try:
            answers[recipe] = answer = await gating.time(recipe, Budget())
        except CandidateFailed as error:
            answers[recipe] = error
            raise
        return answer

    found = await find_floor(space, gate, lambda latency: meets(budget, latency))
    return Floor(budget, found, answers)


async def find_floor(space: Space, gate: Try, enough: Callable[[Latency], bool]) -> tuple[Recipe, Latency] | None:
    """The first of the smallest structures that is ``enough``, else the fastest of them and of the model as it is; None
    when none can be built.

    The one of all strategies together is gated first. A step that finds nothing left to do, after what the others did,
    is left out.
    """
    found: list[tuple[Recipe, Latency]] = []
    for recipe in (*strongest_recipes(space), Recipe()):
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

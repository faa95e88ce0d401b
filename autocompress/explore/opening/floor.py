"""The floor: the fastest model that a space allows, timed before anything is trained, where no file of the unchanged
model meets the budget.

What one strategy leaves can make another's result slower, so neither all together nor each alone has to be the fastest.
Where none of these meets the budget, sets of them are searched greedily, a strategy less or more at a time.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from autocompress.budget import Budget
from autocompress.errors import CandidateFailed
from autocompress.explore.clock.clock import Clock
from autocompress.explore.opening.first_recipes import Try
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.gating import Gating
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.space.ladders import strongest_neighbours, strongest_recipes
from autocompress.explore.space.space import Space
from autocompress.latency import Latency
from autocompress.recipe import Recipe

TimedRecipe = tuple[Recipe, Latency]
Build = Callable[[Recipe], Awaitable[TimedRecipe | None]]
Enough = Callable[[Latency], bool]


@dataclass(frozen=True)
class Floor:
    """found: the fastest of the smallest structures, up to the first that meets the budget; None without a budget, or
    when none can be built. subset: whether it is of some strategies, and neither all together nor one alone came as
    near. answers: of all that were timed in looking for it. cut_off: whether there was no time to look at all sets.
    """

    budget: Budget
    found: TimedRecipe | None = None
    subset: bool = False
    answers: Mapping[Recipe, Gate | CandidateFailed] = field(default_factory=dict)
    cut_off: bool = False

    @classmethod
    def from_json(cls, budget: Budget, stored: dict[str, Any] | None) -> "Floor | None":
        """What an earlier process found, or None."""
        if not stored:
            return None
        found = Recipe.from_json(stored["recipe"]), Latency.from_json(stored["latency"])
        return cls(budget, found, stored.get("subset", False))

    def to_json(self) -> dict[str, Any] | None:
        if self.found is None:
            return None
        return {"recipe": self.found[0].to_json(), "latency": asdict(self.found[1]), "subset": self.subset}

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
        if self.is_over and self.cut_off:
            return (
                f"the budget of {self.budget} is met by nothing that there was time to look at: the fastest of these "
                f"models takes {took}"
            )
        if self.is_over:
            return (
                f"the budget of {self.budget} cannot be met here: the floor, the fastest model of this space, takes "
                f"{took}"
            )
        if meets(self.budget, latency):
            return f"the budget of {self.budget} can be met: the smallest structure takes {took}"
        return None


def meets(budget: Budget, latency: Latency) -> bool:
    return budget.surely_within(latency)


def is_over(budget: Budget, latency: Latency) -> bool:
    return latency.quiet and budget.excluded(latency)


async def time_floor(
    space: Space, gating: Gating, budget: Budget, clock: Clock, policy: SearchPolicy = SearchPolicy()
) -> Floor:
    """Time the smallest structures, and where all of them are over the budget those of other sets of strategies, each
    with the variants that were fast on the reference until one is within the budget.
    """
    if not budget.bounded:
        return Floor(budget)
    answers: dict[Recipe, Gate | CandidateFailed] = {}
    until, cut_off = float("inf"), False

    async def gate(recipe: Recipe) -> Gate:
        nonlocal cut_off
        if recipe not in answers:
            if clock.elapsed() > until:
                cut_off = True
                raise CandidateFailed("there is no time to look for a faster one")
            try:
                answers[recipe] = await gating.time(recipe, budget)
            except CandidateFailed as error:
                answers[recipe] = error
        answer = answers[recipe]
        if isinstance(answer, CandidateFailed):
            raise answer
        return answer

    def enough(latency: Latency) -> bool:
        return meets(budget, latency)

    found = await find_floor(space, gate, enough)
    if found is None or not is_over(budget, found[1]):
        return Floor(budget, found, answers=answers)
    until = clock.elapsed() + policy.floor_share * clock.left()
    nearer = await find_subset(space, found, gate, enough)
    return Floor(budget, nearer, nearer != found, answers, cut_off)


async def find_floor(space: Space, gate: Try, enough: Enough) -> TimedRecipe | None:
    """The first of the smallest structures that is ``enough``, else the fastest of them and of the model as it is; None
    when none can be built.

    The one of all strategies together is gated first. A step that finds nothing left to do, after what the others did,
    is left out.
    """
    found: list[TimedRecipe] = []
    for recipe in (*strongest_recipes(space), Recipe()):
        built = await _built(space, recipe, gate)
        if built is not None and enough(built[1]):
            return built
        found += [built] if built is not None else []
    return min(found, key=_ratio, default=None)


async def find_subset(space: Space, known: TimedRecipe, gate: Try, enough: Enough) -> TimedRecipe:
    """The fastest set of strategies that a greedy search finds: from all together, and from ``known``, the fastest so
    far, one strategy at a time is left out or added, as long as that is faster. The first that is ``enough`` ends it.

    At most twice the square of the number of strategies is gated; where every strategy helps, each is left out once.
    """

    async def build(recipe: Recipe) -> TimedRecipe | None:
        return await _built(space, recipe, gate)

    together = [built for recipe in strongest_recipes(space)[:1] if (built := await build(recipe)) is not None]
    for start in (*together, known):
        known = min(known, await _descended(space, start, build, enough), key=_ratio)
        if enough(known[1]):
            break
    return known


async def _descended(space: Space, start: TimedRecipe, build: Build, enough: Enough) -> TimedRecipe:
    """Steepest descent of latency; a step has to be faster than the intervals of both."""
    for _ in space.structural:
        near: list[TimedRecipe] = [start]
        for recipe in strongest_neighbours(space, start[0]):
            built = await build(recipe)
            near += [built] if built is not None else []
            if built is not None and enough(built[1]):
                return built
        fastest = min(near, key=_ratio)
        if fastest[1].ratio_high >= start[1].ratio_low:
            return fastest
        start = fastest
    return start


def _ratio(timed: TimedRecipe) -> float:
    return timed[1].ratio


async def _built(space: Space, recipe: Recipe, gate: Try) -> TimedRecipe | None:
    """The structure that can be built of a recipe's steps, timed; None when that is none of its own."""
    while True:
        try:
            return recipe, (await gate(recipe)).latency
        except CandidateFailed as error:
            smaller = recipe.without(error.strategy or "")
            if smaller == recipe or not space.gated(smaller).steps:
                return None
            recipe = smaller

"""The start of a search: the floor, then the first recipes. Both only gate structures; nothing is trained."""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

from autocompress.budget import Budget
from autocompress.candidate.bench import Gate
from autocompress.errors import CandidateFailed
from autocompress.explore.space import Space
from autocompress.recipe import Recipe

FEW = 2  # structural strategies, of each of which three strengths are tried first
EACH = 2  # first recipes for each structural strategy, without a budget
TRIES = 3  # structures timed on the way to one latency
NEAR = 1.3  # times the latency wanted, or a 1.3rd of it: near enough

Try = Callable[[Recipe], Awaitable[Gate]]


async def find_floor(space: Space, gate: Try, enough: Callable[[Gate], bool]) -> tuple[Recipe, Gate] | None:
    """The fastest of the smallest structures the space allows; None when nothing is structural or none can be built.

    They are gated the one of all strategies together first, until one is ``enough``. A step that finds nothing left to
    do, after what the others did, is left out.
    """
    found: list[tuple[Recipe, Gate]] = []
    for strongest in space.strongest():
        recipe = strongest
        while space.gated(recipe).steps:
            try:
                found.append((recipe, await gate(recipe)))
                break
            except CandidateFailed as error:
                smaller = recipe.without(error.strategy or "")
                if smaller == recipe:
                    break
                recipe = smaller
        if found and enough(found[-1][1]):
            break
    return min(found, key=lambda pair: pair[1].latency.ratio, default=None)


async def first_recipes(space: Space, budget: Budget, gate: Try) -> list[Recipe]:
    """Default recipes to begin with under a budget: for each structural strategy the mildest default structure that
    meets it, found by bisection, then the next stronger ones, one strategy after another. The more strategies there
    are, the fewer recipes of each: what they give together is for the sampler to find.
    """
    columns: list[list[Recipe]] = []
    for ladder in space.ladders():
        mildest = await _mildest_within(ladder, budget, gate)
        columns.append(ladder[mildest : mildest + 3])
    rounds = 3 if len(columns) <= FEW else 2
    return [column[i] for i in range(rounds) for column in columns if i < len(column)]


async def spread_recipes(space: Space, targets: Callable[[], float], gate: Try) -> list[Recipe]:
    """Default recipes to begin with when there is no budget: latencies spread over the range, strategies in turn.

    targets: the next latency ratio that is wanted. Each is tried to be met by the next strategy in turn that comes so
    far with its strongest structure.
    """
    ladders = []
    for recipes in space.ladders():
        ladder = Ladder(recipes, gate)
        with suppress(CandidateFailed):
            await ladder.time(len(recipes) - 1)
            ladders.append(ladder)
    chosen: list[Recipe] = []
    for _ in range(EACH * len(ladders)):
        target = targets()
        reaching = next((ladder for ladder in ladders if ladder.fastest <= NEAR * target), None)
        if reaching is not None:
            ladders.remove(reaching)
            ladders.append(reaching)  # its turn comes again after the others'
            with suppress(CandidateFailed):
                chosen.append(await reaching.nearest(target))
    return list(dict.fromkeys(chosen))


class Ladder:
    """The default recipes of a strategy at rising strengths, and what was found of their latencies."""

    def __init__(self, recipes: list[Recipe], gate: Try) -> None:
        self._recipes = recipes
        self._gate = gate
        self._known = {-1: 0.0}  # by index, logarithms of latency ratios; before the first is the unchanged model

    @property
    def fastest(self) -> float:
        return math.exp(min(self._known.values()))

    async def time(self, index: int) -> None:
        """Gate a structure. Raises CandidateFailed."""
        self._known[index] = math.log((await self._gate(self._recipes[index])).latency.ratio)

    async def nearest(self, target: float) -> Recipe:
        """The recipe nearest to a latency ratio, or one that is near enough, in a few steps of interpolation between
        what is known (the unchanged model is slower). Raises CandidateFailed.
        """
        wanted = math.log(target)
        for _ in range(TRIES):
            index = self._between(wanted)
            if index in self._known:
                break
            await self.time(index)
            if abs(self._known[index] - wanted) <= math.log(NEAR):
                break
        return self._recipes[min(self._known.keys() - {-1}, key=lambda i: abs(self._known[i] - wanted))]

    def _between(self, wanted: float) -> int:
        points = sorted(self._known.items())
        after = next((n for n in range(1, len(points)) if points[n][1] <= wanted), len(points) - 1)
        (x0, y0), (x1, y1) = points[after - 1], points[after]
        at = x1 if y1 >= y0 else x0 + (x1 - x0) * (wanted - y0) / (y1 - y0)
        return min(len(self._recipes) - 1, max(0, round(at)))


async def _mildest_within(ladder: list[Recipe], budget: Budget, gate: Try) -> int:
    """Index of the mildest structure that meets the budget; latency falls with strength. The strongest when none
    does.
    """
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            meets = budget.excess((await gate(ladder[middle])).latency) <= 0
        except CandidateFailed:
            meets = False
        if meets:
            high = middle
        else:
            low = middle + 1
    return low

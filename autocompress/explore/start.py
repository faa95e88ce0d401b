"""The start of a search: the floor, then the first recipes. Both only gate structures; nothing is trained."""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from autocompress.budget import Budget
from autocompress.candidate.bench import Gate
from autocompress.errors import CandidateFailed
from autocompress.explore.space import Space
from autocompress.recipe import Recipe

FEW = 2  # structural strategies, of each of which three strengths are tried first
PROBED = (0.5, 1.0)  # of the range of strengths, gated when there is no budget
EACH = 2  # first recipes for each structural strategy, without a budget
NEAR = 1.3  # times the latency wanted, which a strategy's strongest structure has to come under

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

    targets: the next latency ratio that is wanted. Of each structural strategy a few strengths are gated, and for each
    target the strength between them that should come nearest is taken, of the next strategy in turn that comes so far.
    """
    ladders: list[tuple[list[Recipe], list[tuple[float, float]]]] = []
    for ladder in space.ladders():
        probed = []
        for at in dict.fromkeys(round(share * (len(ladder) - 1)) for share in PROBED):
            with suppress(CandidateFailed):
                probed.append((float(at), math.log((await gate(ladder[at])).latency.ratio)))
        if probed:
            ladders.append((ladder, probed))
    chosen: list[Recipe] = []
    for _ in range(EACH * len(ladders)):
        target = math.log(targets())
        reaching = [n for n, (_, probed) in enumerate(ladders) if probed[-1][1] <= target + math.log(NEAR)]
        if reaching:
            ladder, probed = ladders.pop(reaching[0])
            ladders.append((ladder, probed))  # its turn comes again after the others'
            chosen.append(ladder[_strength_for(target, probed, len(ladder))])
    return list(dict.fromkeys(chosen))


def _strength_for(target: float, probed: Sequence[tuple[float, float]], size: int) -> int:
    """Index on a ladder of ``size`` where the logarithm of the latency ratio should be ``target``: by a line through
    the two nearest of (index, logarithm) that were gated, the unchanged model before the first.
    """
    points = [(-1.0, 0.0), *probed]
    after = next((n for n in range(1, len(points)) if points[n][1] <= target), len(points) - 1)
    (x0, y0), (x1, y1) = points[after - 1], points[after]
    at = x1 if y1 >= y0 else x0 + (x1 - x0) * (target - y0) / (y1 - y0)
    return min(size - 1, max(0, round(at)))


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

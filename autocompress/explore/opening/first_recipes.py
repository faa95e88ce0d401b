"""The first recipes of a search. Structures are gated to find them, as many at once as can be under way; nothing is
trained.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from autocompress.budget import Budget
from autocompress.errors import CandidateFailed
from autocompress.explore.concurrency import all_done
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.space.ladders import ladders, single_defaults, strongest_recipes
from autocompress.explore.space.space import Space
from autocompress.explore.space.structure_model import FEWEST_TIMED
from autocompress.recipe import Recipe

FEW_STRATEGIES = 2  # structural strategies, at most, that count as few
STRENGTHS_WHERE_FEW, STRENGTHS_WHERE_MANY = 3, 2  # of each of them, tried first
SHARES_BETWEEN = (0.5, 0.25, 0.75)  # of a ladder of strengths, timed beside both ends in a small space
NEAR = 0.05  # within the budget, as a share of it, below which no milder structure is looked for
STEEPER = 3.0  # times as much as between the last two that latency may still fall with strength

Try = Callable[[Recipe], Awaitable[Gate]]


async def first_recipes(space: Space, budget: Budget, gate: Try, also: Sequence[list[Recipe]] = ()) -> list[Recipe]:
    """Default recipes to begin with under a budget: for each structural strategy the mildest default structure that
    meets it by the margin, found by bisection, then the next stronger ones, one strategy after another. The more
    strategies there are, the fewer recipes of each: what they give together is for the sampler to find. also: recipes
    at rising strength that come before those.
    """
    rising = [*also, *ladders(space)]
    rounds = STRENGTHS_WHERE_FEW if len(rising) <= FEW_STRATEGIES else STRENGTHS_WHERE_MANY
    return await first_of(rising, budget, gate, rounds)


async def first_of(rising: Sequence[list[Recipe]], budget: Budget, gate: Try, rounds: int) -> list[Recipe]:
    """Of each ladder of strengths the mildest structure that meets the budget, and the next stronger ones, in turn.
    rounds: how many of each.
    """
    mildest = await all_done(_mildest_within(ladder, budget, gate) for ladder in rising)
    columns = [ladder[at : at + rounds] for ladder, at in zip(rising, mildest, strict=True)]
    return [column[i] for i in range(rounds) for column in columns if i < len(column)]


async def default_recipes(space: Space, gate: Try) -> list[Recipe]:
    """Where to begin without a budget: each structural strategy's default that can be built, in their order.

    Beside them the smallest structures are gated, so that it is known how far each strategy comes, and in a small space
    some between, so that it can be foretold where others are.
    """
    defaults, rising = single_defaults(space), list(ladders(space))
    timed: set[Recipe] = set()

    async def time(recipe: Recipe) -> None:
        with suppress(CandidateFailed):
            await gate(recipe)
            timed.add(recipe)

    await all_done(time(recipe) for recipe in dict.fromkeys([*strongest_recipes(space), *defaults]))
    for share in SHARES_BETWEEN:
        for recipe in (ladder[round(share * (len(ladder) - 1))] for ladder in rising):
            if len(timed) < FEWEST_TIMED and recipe not in timed:
                await time(recipe)
    return [recipe for recipe in defaults if recipe in timed]


async def _mildest_within(ladder: list[Recipe], budget: Budget, gate: Try) -> int:
    """Index of the mildest structure that meets the budget, or of one that is within it by little; latency falls with
    strength. The strongest when none does, or when it hardly falls.

    By bisection, every other step where a line through the nearest on both sides crosses the budget.
    """
    low, high, halves = 0, len(ladder) - 1, True
    over, within = math.nan, math.nan  # logarithms of latency to budget, of the one before ``low`` and of ``high``
    while low < high:
        crossing = low - 1 + (high - low + 1) * over / (over - within)
        halves = halves or math.isnan(crossing)
        at = (low + high) // 2 if halves else min(max(math.ceil(crossing), low), high - 1)
        halves = not halves
        try:
            excess = budget.excess((await gate(ladder[at])).latency)
        except CandidateFailed:
            low, over = at + 1, math.nan
            continue
        if -NEAR <= excess <= 0:
            return at
        if excess < 0:
            high, within = at, math.log1p(excess)
            continue
        now = math.log1p(excess)
        falls = (over - now) / (at + 1 - low)
        if math.isnan(within) and now > STEEPER * falls * (high - at):
            return high
        low, over = at + 1, now
    return low

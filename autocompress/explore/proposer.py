"""Which recipe comes next: the first recipes, then what the sampler says goes together, as strong as it has to be."""

import math
from collections.abc import Callable

from autocompress.explore.aim import LatencyModel
from autocompress.explore.front import SPEEDUP_SPAN, where_room_is
from autocompress.explore.ledger import Family, Ledger, point
from autocompress.explore.sampler import Asked, Sampler
from autocompress.recipe import Recipe

REPEATS = 40  # known recipes in a row before the space counts as exhausted
KNEE = 1.3  # times the fastest structure timed: what is faster yet has hardly anything left to compute with
NEIGHBOURS = 5  # families among which the one nearest to a latency is looked for
WITH_ROOM = 0.92  # of the budget, below which the best family so far is tried again with milder strengths


class Proposer:
    """``next`` asks the sampler and moves the strengths to the latency that is wanted.

    latencies: learned from the structures gated so far. busy: whether a recipe is under way.
    """

    def __init__(
        self, sampler: Sampler, ledger: Ledger, latencies: LatencyModel, busy: Callable[[Recipe], bool]
    ) -> None:
        self._sampler = sampler
        self._ledger = ledger
        self._latencies = latencies
        self._busy = busy
        self._asked = 0
        self.waiting: list[Recipe] = []

    def next(self) -> Asked | None:
        """A recipe that was not tried yet; None when the space holds nothing new."""
        for _ in range(REPEATS):
            asked = self._sampler.given(self.waiting.pop(0)) if self.waiting else self._proposal()
            if not self._known(asked.recipe):
                return asked
            self._sampler.repeated(asked)
        return None

    def _known(self, recipe: Recipe) -> bool:
        return not recipe.changes or self._busy(recipe) or self._ledger.ended(recipe)

    def _proposal(self) -> Asked:
        """One of the best families so far at another strength, where that is worth trying; else what the sampler asks
        for, as strong as it has to be.
        """
        target = self.target()
        again = self._again(target)
        if again is not None:
            return self._sampler.given(again)
        asked = self._sampler.ask()
        better = self._latencies.aimed(asked.recipe, target)
        if better == asked.recipe or self._known(better):
            return asked
        self._sampler.repeated(asked)
        return self._sampler.given(better)

    def _again(self, target: float) -> Recipe | None:
        """Under a budget the best family, made milder when it is stronger than it has to be; without one, four times in
        eight (so that each kind of proposal sees targets of the whole range), of the best families the one nearest to
        the latency that is wanted, moved there.
        """
        if self._ledger.target is not None:
            best = [f for f in self._ledger.finalists(1) if self._ratio(f) < WITH_ROOM * target]
        else:
            best = self._ledger.finalists(NEIGHBOURS) if self._asked & 4 else []
        if not best:
            return None
        moved = self._latencies.aimed(min(best, key=lambda f: abs(math.log(self._ratio(f) / target))).recipe, target)
        return None if self._known(moved) else moved

    def _ratio(self, family: Family) -> float:
        return self._ledger.expected(self._ledger.standing(family).best).ratio

    def target(self) -> float:
        """The next latency ratio to aim at: the budget; without one, ratios spread evenly over the room that the front
        leaves, down to where structures stop getting faster.
        """
        if self._ledger.target is not None:
            return self._ledger.target
        self._asked += 1
        least = min(0.5, max(2.0**-SPEEDUP_SPAN, KNEE * self._latencies.fastest))
        points = [point(e) for e in self._ledger.front()]
        return where_room_is(points, self._ledger.opening.reference.score.val, least, halton(self._asked))


def halton(number: int) -> float:
    """The number-th point of the van der Corput sequence of base 2, in 0..1: each new one falls into a widest gap."""
    value, share = 0.0, 0.5
    while number:
        value += share * (number & 1)
        number >>= 1
        share /= 2
    return value

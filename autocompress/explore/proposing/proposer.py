"""Which recipe comes next: the first recipes, then what the sampler says goes together, as strong as it has to be."""

import math
from collections.abc import Callable, Sequence

from autocompress.explore.history.family import Family
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.proposing.sampler import Asked, Sampler
from autocompress.explore.space.structure_model import StructureModel
from autocompress.explore.standings.front import SCORE_SPAN, SPEEDUP_SPAN, Point, ratio_by_missing_area
from autocompress.explore.standings.objective import point
from autocompress.explore.standings.standings import Standings
from autocompress.recipe import Recipe

KNOWN_IN_A_ROW = 40  # known recipes in a row before the space counts as exhausted
REPEATED_IN_A_ROW = 8  # before what comes next is drawn at random: a sampler may want the same again and again
LEAST_OVER_FASTEST = 1.3  # times the fastest structure timed: below that hardly anything is left to compute with
LEAST_WHERE_REACHED = 1.05  # and where that was reached with a good score
REACHED = 1.1  # times a latency that is aimed at, which counts as there
AT_LEAST_DOWN_TO = 0.5  # of the reference's latency, wherever structures seem to stop getting faster
MOST_ASKED = 3  # times, for something that comes near the latency that is wanted
FAR_OFF = 1.3  # times the latency that is wanted: what does not come so far is not tried for it
MILDER_BELOW = 0.92  # of the budget, below which the best family so far is tried again with milder strengths


class Proposer:
    """``next`` asks the sampler and moves the strengths to the latency that is wanted.

    structures: learned from those gated so far. busy: whether a recipe is under way, or another one that it would tell
    nothing beside. waiting: what comes first. defaults: of each strategy alone; the first one is where a search begins.
    """

    def __init__(
        self,
        sampler: Sampler,
        standings: Standings,
        structures: StructureModel,
        busy: Callable[[Recipe], bool],
        policy: SearchPolicy = SearchPolicy(),
        *,
        waiting: Sequence[Recipe] = (),
        defaults: Sequence[Recipe] = (),
    ) -> None:
        self._sampler = sampler
        self._standings = standings
        self._structures = structures
        self._busy = busy
        self._policy = policy
        self._asked = 0
        self._explored = 0
        self._first: Recipe | None = None  # the default that is tried as it is
        self._waiting = list(waiting)
        self._defaults = list(defaults)

    @property
    def is_waiting(self) -> bool:
        """Whether some of what comes first is left."""
        return bool(self._waiting)

    def begin(self, waiting: Sequence[Recipe], defaults: Sequence[Recipe]) -> None:
        """What comes first, and the defaults of each strategy alone, are found."""
        self.wait_for(waiting)
        self._defaults = list(defaults)

    def wait_for(self, recipes: Sequence[Recipe]) -> None:
        """These come before anything new."""
        self._waiting += [recipe for recipe in recipes if recipe not in self._waiting]

    def next(self) -> Asked | None:
        """A recipe that was not tried yet; None when the space holds nothing new."""
        for number in range(KNOWN_IN_A_ROW):
            if self._waiting:
                asked = self._sampler.given(self._waiting.pop(0))
            elif number < REPEATED_IN_A_ROW:
                asked = self._proposal()
            else:
                asked = self._sampled(self.target(), at_random=True)
            if not self._known(asked.recipe):
                return asked
            self._sampler.repeated(asked)
        return None

    def _known(self, recipe: Recipe) -> bool:
        return not recipe.changes or self._busy(recipe) or self._standings.ended(recipe)

    def _proposal(self) -> Asked:
        """The first default as it is; then one of the best families so far at another strength, where that is worth
        trying; else another strategy's default, one of the best with a change, or what the sampler asks for, as strong
        as it has to be.
        """
        if self._defaults and not self._standings.families and not (self._first and self._busy(self._first)):
            self._first = self._defaults.pop(0)
            return self._sampler.given(self._first)
        target = self.target()
        again = self._again(target)
        if again is not None:
            return self._sampler.given(again)
        other = self._default(target) or self._changed(target)
        if other is not None:
            return self._sampler.given(other)
        return self._sampled(target)

    def _sampled(self, target: float, *, at_random: bool = False) -> Asked:
        """What the sampler asks for, as strong as it has to be; what does not come near is asked for again."""
        for more in reversed(range(MOST_ASKED)):
            asked = self._sampler.ask(at_random=at_random)
            better = self._structures.aimed(asked.recipe, target)
            if not more or self._comes_near(better, target):
                break
            self._sampler.repeated(asked)
        if better == asked.recipe or self._known(better):
            return asked
        self._sampler.repeated(asked)
        return self._sampler.given(better)

    def _comes_near(self, recipe: Recipe, target: float) -> bool:
        """Whether a recipe is not foretold to stay far from a latency ratio."""
        return not self._structures.foretells(recipe) or self._structures.latencies([recipe])[0] <= FAR_OFF * target

    def _default(self, target: float) -> Recipe | None:
        """The default of a strategy that no family has yet, at the latency that is wanted, if it comes near it."""
        while self._defaults:
            default = self._defaults.pop(0)
            strategy, moved = default.steps[0].strategy, self._structures.aimed(default, target)
            heard = any(family.recipe.step(strategy) for family in self._standings.families.values())
            if not heard and self._comes_near(moved, target):
                return moved
        return None

    def _again(self, target: float) -> Recipe | None:
        """Under a budget the best family, made milder when it is stronger than it has to be; without one, the first
        three times and then four in eight (so that each kind of proposal sees targets of the whole range), of the best
        families the one nearest to the latency that is wanted, moved there.
        """
        most = self._policy.strengthened
        if self._standings.target is not None:
            best = [f for f in self._standings.best(min(1, most)) if self._ratio(f) < MILDER_BELOW * target]
        else:
            best = self._standings.best(most) if not self._asked & 4 else []
        if not best:
            return None
        moved = self._structures.aimed(self._nearest(best, target).recipe, target)
        return moved if self._comes_near(moved, target) and not self._known(moved) else None

    def _changed(self, target: float) -> Recipe | None:
        """Every other time one of the best families with something changed, at the latency that is wanted."""
        self._explored += 1
        best = self._standings.best(self._policy.neighbours)
        if not best or self._explored % 2 == 0:
            return None
        changed = self._sampler.neighbour(self._nearest(best, target).recipe)
        moved = self._structures.aimed(changed, target)
        return moved if self._comes_near(moved, target) and not self._known(moved) else None

    def _nearest(self, families: list[Family], target: float) -> Family:
        return min(families, key=lambda f: abs(math.log(self._ratio(f) / target)))

    def _ratio(self, family: Family) -> float:
        return self._standings.standing(family).best.latency.ratio

    def target(self) -> float:
        """The next latency ratio to aim at: the budget; without one, ratios spread evenly over the area that the front
        leaves, down to where structures stop getting faster.
        """
        if self._standings.target is not None:
            return self._standings.target
        self._asked += 1
        reference, points = self._standings.opening.reference.score.val, [point(e) for e in self._standings.front()]
        return ratio_by_missing_area(points, reference, self._least(points, reference), halton(self._asked))

    def _least(self, front: Sequence[Point], reference: float) -> float:
        """The least latency ratio that is aimed at without a budget: some way from the fastest structure, until a model
        is there that keeps half of what a point may lose.
        """

        def least(over: float) -> float:
            return float(min(AT_LEAST_DOWN_TO, max(2.0**-SPEEDUP_SPAN, over * self._structures.fastest)))

        usual = least(LEAST_OVER_FASTEST)
        reached = any(ratio <= REACHED * usual and score >= reference - SCORE_SPAN / 2 for score, ratio in front)
        return least(LEAST_WHERE_REACHED) if reached else usual


def halton(number: int) -> float:
    """The number-th point of the van der Corput sequence of base 2, in 0..1: each new one falls into a widest gap."""
    value, share = 0.0, 0.5
    while number:
        value += share * (number & 1)
        number >>= 1
        share /= 2
    return value

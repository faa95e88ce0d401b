"""Which structures are worth training: each is timed once before, and some are turned away for it."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable

from autocompress.errors import CandidateFailed
from autocompress.explore.history.family import Family
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.schedule import rungs
from autocompress.explore.space.space import Space
from autocompress.explore.space.structure_model import StructureModel
from autocompress.explore.standings.standings import Standings
from autocompress.recipe import TRAIN, Recipe

EXPLORE_EVERY = 10  # one trained family in ten may be over the budget, so that the front does not end there
EXPLORE_UP_TO = 3.0  # times the budget
COMPARED = 30  # families, the best, that a structure is compared with
LARGER = 1.1  # times the multiply-accumulates: clearly more is left of the model


class Admission:
    """``gate`` is a structure's latency, remembered; ``refusal`` says why it is not trained.

    structures: learns from every structure. timed: builds and times a structure; raises CandidateFailed.
    """

    def __init__(
        self,
        space: Space,
        standings: Standings,
        structures: StructureModel,
        timed: Callable[[Recipe], Awaitable[Gate]],
        policy: SearchPolicy = SearchPolicy(),
    ) -> None:
        self._space = space
        self._standings = standings
        self._structures = structures
        self._timed = timed
        self._least_gain = policy.least_gain
        self._gates: dict[Recipe, Gate | CandidateFailed] = {}
        self._gated_by_id: dict[str, Recipe] = {}
        self._asking: defaultdict[Recipe, asyncio.Lock] = defaultdict(asyncio.Lock)  # one asks at a time
        self._explored_beyond = sum(map(self._is_beyond, standings.families.values()))

    def remember(self, recipe: Recipe, answer: Gate | CandidateFailed) -> None:
        """A structure was timed, or could not be."""
        self._gates[self._space.gated(recipe)] = answer
        if isinstance(answer, Gate):
            self.learn(recipe, answer.latency.ratio, answer.macs)

    async def gate(self, recipe: Recipe) -> Gate:
        """The gate's answer for a recipe; how it is trained does not matter to it. Raises CandidateFailed, and again
        when the same structure is asked for again.
        """
        key = self._space.gated(recipe)
        async with self._asking[key]:
            if key not in self._gates:
                try:
                    self.remember(recipe, await self._timed(recipe))
                except CandidateFailed as error:
                    self.remember(recipe, error)
        known = self._gates[key]
        if isinstance(known, CandidateFailed):
            raise known
        return known

    def learn(self, recipe: Recipe, ratio: float, macs: int) -> None:
        """A structure was timed, now or by an earlier process. Where multiply-accumulates are not counted, all of them
        count as left.
        """
        whole = self._standings.opening.reference.macs
        self._structures.add(self._space.gated(recipe), ratio, macs / whole if whole and macs else 1.0)

    def awaits_training(self, recipe: Recipe, under_way: Iterable[Recipe] = ()) -> bool:
        """Whether a family of this structure was evaluated untrained and is still to be trained, or is ``under_way``: a
        look at another one, which trains in another way, would find the same.
        """
        if recipe.step(TRAIN) is None:
            return False
        structure = self._gated(recipe)
        begun = [f.recipe for f in self._standings.contending() if f.rung == rungs.UNTRAINED]
        return any(self._gated(one) == structure for one in (*begun, *under_way) if one.step(TRAIN))

    def _gated(self, recipe: Recipe) -> Recipe:
        """What decides how fast a recipe's files are; asked of many recipes with each proposal."""
        if recipe.id not in self._gated_by_id:
            self._gated_by_id[recipe.id] = self._space.gated(recipe)
        return self._gated_by_id[recipe.id]

    def over(self, gate: Gate) -> bool:
        """Whether a gate's answer rules a structure out under the budget."""
        budget = self._standings.steering
        return budget.bounded and budget.ruled_out(gate.latency)

    def refusal(self, recipe: Recipe, gate: Gate, cheap: bool) -> str | None:
        """Why a structure is not worth training. Under a budget: it is over it, and it is not the turn to explore
        beyond (which is done while it is ``cheap``). Without one: it is so near in latency to what is known that no
        score would add much to the front, or a trained family of the same strategies is as fast and computes more.
        """
        if not self._standings.steering.bounded:
            if self._least_gain is None or not self._space.structural or not gate.latency.quiet:
                return None
            if self._standings.gain_at_most(gate.latency.ratio_low) < self._least_gain:
                return "too near in latency to what is known to add to the front"
            if any(self._as_fast_and_larger(family, recipe, gate) for family in self._standings.best(COMPARED)):
                return "no faster than a family of the same strategies that has more left of the model"
            return None
        if not self.over(gate):
            return None
        turn = (self._explored_beyond + 1) * EXPLORE_EVERY <= len(self._standings.families) + 1
        if turn and cheap and self._standings.steering.excess(gate.latency) + 1 <= EXPLORE_UP_TO:
            self._explored_beyond += 1
            return None
        return "over the budget before training"

    def _as_fast_and_larger(self, family: Family, recipe: Recipe, gate: Gate) -> bool:
        if self._structure(family.recipe) != self._structure(recipe):
            return False
        best = self._standings.standing(family).best
        return best.latency.ratio <= gate.latency.ratio and best.macs > LARGER * gate.macs

    def _structure(self, recipe: Recipe) -> set[str]:
        names = {a.name for a in self._space.structural}
        return {step.strategy for step in recipe.steps} & names

    def worth_below(self) -> float | None:
        """The latency ratio at and above which a file adds nothing. None where slower ones may: within a budget only
        the score counts, and who searches no structures wants what training alone gives.
        """
        if self._least_gain is None or not self._space.structural or self._standings.steering.bounded:
            return None
        return self._standings.worth_below()

    def _is_beyond(self, family: Family) -> bool:
        """Whether no file of a family is within the budget."""
        budget = self._standings.steering
        return budget.bounded and all(budget.excluded(e.latency) for e in family.outcomes[0].evaluations)

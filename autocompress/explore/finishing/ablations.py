"""Ablations of the best recipe: what each of its steps brings, by families without it."""

from collections.abc import Awaitable, Callable

from autocompress.candidate.request import TrainRequest
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.history.facts import Evaluated, Failed
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.schedule import rungs
from autocompress.explore.schedule.time_budget import TimeBudget
from autocompress.explore.space.fixed_trial import leaving_out
from autocompress.explore.space.space import Space
from autocompress.explore.standings.standings import Standings
from autocompress.explore.training.training import Training
from autocompress.explore.view import View
from autocompress.recipe import TRAIN, Recipe

LEAST_S = 0.5  # of a training, that says anything
NEARLY_AS_LONG, NEARLY_AS_FAST = 0.5, 1.1  # times the best's training, and its latency: what compares with it


class Ablations:
    """Families that the search has not seen: the best one without one of its steps, as fast, trained at most as long.

    gate: times a structure; raises CandidateFailed. aimed: a recipe as strong as a latency ratio asks for.
    """

    def __init__(
        self,
        space: Space,
        standings: Standings,
        training: Training,
        time: TimeBudget,
        history: History,
        clock: Clock,
        durations: Durations,
        view: View,
        gate: Callable[[Recipe], Awaitable[Gate]],
        aimed: Callable[[Recipe, float], Recipe],
    ) -> None:
        self._space = space
        self._standings = standings
        self._training = training
        self._time = time
        self._history = history
        self._clock = clock
        self._durations = durations
        self._view = view
        self._gate = gate
        self._aimed = aimed

    def keep_time(self, best: Evaluation | None) -> None:
        """Where nothing is missing, no time is kept for it."""
        if best is None or not self._missing(best):
            self._time.explaining_s = 0.0

    async def run(self, best: Evaluation, check_interrupted: Callable[[], None]) -> None:
        """Make and train what is missing, each with an equal share of the time that is kept for it, at most as long as
        the best itself was trained.
        """
        missing, family = self._missing(best), self._standings.families.get(best.recipe.family.id)
        self._time.explaining_s = 0.0
        for number, recipe in enumerate(missing):
            assert family is not None
            check_interrupted()
            share_s = (self._clock.left() - self._time.closing_s()) / (len(missing) - number)
            training_s = min(share_s - self._durations.overhead_s(), family.train_s)
            if training_s < LEAST_S:
                self._view.note(f"what {len(missing) - number} steps bring is not measured: there was no time for it")
                return
            await self._evaluate(recipe, family, training_s)

    def _missing(self, best: Evaluation) -> list[Recipe]:
        """The recipe of the best without each step, where no other family applies all the others and nothing else, is
        as fast, and was trained nearly as long.
        """
        family = self._standings.families.get(best.recipe.family.id)
        if family is None or not family.trained:
            return []
        comparable = [f for f in self._standings.families.values() if f.train_s >= NEARLY_AS_LONG * family.train_s]
        ratio, standing = best.latency.ratio, self._standings.standing
        known = {_strategies(f.recipe) for f in comparable if standing(f).best.latency.ratio <= NEARLY_AS_FAST * ratio}
        found: list[Recipe] = []
        for name in sorted(_strategies(family.recipe)):
            recipe = leaving_out(self._space, family.recipe, name)
            if self._space.gated(recipe).steps and _strategies(recipe) not in known and recipe.step(TRAIN):
                found.append(self._aimed(recipe, ratio))
                known.add(_strategies(recipe))
        return [recipe for recipe in found if not self._standings.ended(recipe)]

    async def _evaluate(self, recipe: Recipe, best: Family, seconds: float) -> None:
        with self._training.under_way(recipe):
            try:
                gate = await self._gate(recipe)
                request = TrainRequest(
                    recipe,
                    self._training.arithmetic,
                    rung=rungs.TRAINED,
                    examples=best.examples,
                    limit_s=seconds,
                    plans=gate.plans,
                )
                self._history.enter(Evaluated(recipe, await self._training.evaluate(request, gate.slower)))
            except CandidateFailed as error:
                if not self._training.is_cut_off(error):
                    self._history.enter(Failed(recipe, error.strategy, error.reason))


def _strategies(recipe: Recipe) -> frozenset[str]:
    return frozenset(step.strategy for step in recipe.steps) - {TRAIN}

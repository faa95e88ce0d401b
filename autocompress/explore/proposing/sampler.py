"""Optuna, as this search uses it: an in-memory study with ask and tell, and the record each finished trial goes
into; and, where few trials say little about so many parameters, neighbours of what is good.

A rejection by the gate is a PRUNED trial with its constraint and no values. Changing one thing of the best at a time is
how regularized evolution searches architectures (Real et al. 2019), and hard to beat for a few dozens of trainings
(White et al., "Local Search is State of the Art for Neural Architecture Search Benchmarks", 2020).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from autocompress.explore.policy import SearchPolicy
from autocompress.explore.space.fixed_trial import FixedTrial
from autocompress.explore.space.space import Space
from autocompress.explore.standings.front import Point
from autocompress.recipe import Recipe

DRAWS = 10  # for a change that makes a difference: another place in an order of one makes none
OVER_BUDGET = "over_budget"


@dataclass(frozen=True)
class Asked:
    """A recipe that is to be tried, and the trial that it will be once it has ended. trial: None when it was somebody
    else's idea.
    """

    recipe: Recipe
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    trial: Trial | None = None

    def evaluated(self, point: Point, over: float | None) -> FrozenTrial:
        """A family was evaluated: its point, and how far over the budget it is (a share; None without a budget)."""
        return self._ended(TrialState.COMPLETE, point, over)

    def rejected(self, over: float) -> FrozenTrial:
        """A structure was timed and not trained."""
        return self._ended(TrialState.PRUNED, None, over)

    def failed(self) -> FrozenTrial:
        return self._ended(TrialState.FAIL, None, None)

    def _ended(self, state: TrialState, point: Point | None, over: float | None) -> FrozenTrial:
        return create_trial(
            state=state,
            values=point,
            params=dict(self.params),
            distributions=dict(self.distributions),
            constraints=None if over is None else {OVER_BUDGET: over},
        )


class Sampler:
    """``ask`` and ``given`` give what to try; ``learn`` and ``repeated`` say how it ended. earlier: the trials of other
    processes.
    """

    def __init__(
        self, space: Space, earlier: Sequence[FrozenTrial], seed: int, policy: SearchPolicy = SearchPolicy()
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._policy = policy
        self._sampler = policy.parts.sampler(seed + len(earlier))
        self._random = random.Random(seed + len(earlier))
        self._drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed + len(earlier) + 1))
        self._start_with(earlier)

    def ask(self, *, at_random: bool = False) -> Asked:
        """What the sampler wants to try next, or what it draws without a look at what is known."""
        trial = (self._drawn if at_random else self._study).ask()
        recipe = self._space.sample(trial)
        return Asked(recipe, trial.params, trial.distributions, trial)

    def given(self, recipe: Recipe) -> Asked:
        """A recipe of somebody else's, which the sampler learns of all the same."""
        fixed = FixedTrial(self._space.params(recipe))
        return Asked(self._space.sample(fixed), fixed.used, fixed.distributions)

    def neighbour(self, recipe: Recipe) -> Recipe:
        """A recipe with one thing changed at random: a strategy more or less, or another choice of a parameter. How
        strong its strategies are is left alone. What a change brings with it takes its default.
        """
        fixed = self._space.params(recipe)
        strengths = {f"{strategy}.{p.name}" for strategy, p, _ in self._space.movable_strengths(recipe)}
        asked = FixedTrial(fixed)
        self._space.sample(asked)
        others = {
            name: [c for c in choices_of(distribution) if c != fixed[name]]
            for name, distribution in asked.distributions.items()
            if name not in strengths
        }
        names = sorted(name for name, choices in others.items() if choices)
        changed = recipe
        for _ in range(DRAWS):
            name = self._random.choice(names)
            params = {**self._space.default_params(), **fixed, name: self._random.choice(others[name])}
            changed = self._space.sample(FixedTrial(params))
            if changed != recipe:
                break
        return changed

    def repeated(self, asked: Asked) -> None:
        """What was asked for is not tried: it is known, or another takes its place. It is not recorded."""
        if asked.trial is not None:
            asked.trial.study.tell(asked.trial, state=TrialState.FAIL)

    def learn(self, asked: Asked, ended: FrozenTrial) -> None:
        """What was asked for was tried."""
        self.repeated(asked)  # the trial that was asked for makes room for one that holds all that is known
        if ended.state != TrialState.FAIL:
            self._study.add_trial(ended)
        everything = self._study.get_trials(deepcopy=False)
        if len(everything) > self._policy.remembered + self._policy.forgotten:
            self._start_with(everything)

    def _start_with(self, trials: Sequence[FrozenTrial]) -> None:
        """An in-memory study of the latest trials; those that were trained go before those that were rejected."""
        most = self._policy.remembered
        trained = [t for t in trials if t.state == TrialState.COMPLETE][-most:]
        rejected = [t for t in trials if t.state == TrialState.PRUNED]
        rejected = rejected[len(rejected) - min(len(rejected), most - len(trained)) :]
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=self._sampler)
        self._study.add_trials(sorted((*trained, *rejected), key=lambda t: t.number))


def choices_of(distribution: BaseDistribution) -> list[Any]:
    """Every value of one of our parameters, as trials have it."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution)
    return list(range(distribution.low, distribution.high + 1))

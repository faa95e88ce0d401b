"""A recipe that is wanted otherwise, put through the space as a trial would be: the space holds what comes of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from autocompress.explore.space.space import Space
from autocompress.recipe import Recipe


class FixedTrial:
    """Stands in for a trial whose parameters are given; notes what was asked for."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.used: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._use(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int) -> int:
        value: int = self._use(name, IntDistribution(low, high))
        return value

    def _use(self, name: str, distribution: BaseDistribution) -> Any:
        self.used[name], self.distributions[name] = self._params[name], distribution
        return self.used[name]


def leaving_out(space: Space, recipe: Recipe, strategy: str) -> Recipe:
    """The recipe without one of its strategies; what the space wants in its place, as something that trains a changed
    structure, takes its defaults.
    """
    return space.sample(FixedTrial({**space.default_params(), **space.params(recipe), strategy: False}))

"""Aiming a proposal at a latency: the sampler says which strategies go together, this says how strong they have to be.

Within a budget the most accurate structures are those that just meet it. A ridge regression of the logarithm of the
latency ratio, fitted on the structures that the gate has timed in this very run, predicts what a structure takes; the
strengths of a proposal are moved together until the prediction just meets the target. What is predicted decides only
what is tried: the gate times it as it does everything else.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autocompress.explore.space import Space
from autocompress.recipe import Recipe

Floats = npt.NDArray[np.float64]
FEWEST = 10  # structures timed, below which nothing is predicted
RIDGE = 0.05
SHIFTS = [step / 20 for step in range(-20, 21)]  # of the range of strengths
ROOM = 0.97  # of the target, to be aimed at


class LatencyModel:
    """What structures take, learned from those that were timed. Ratios multiply, so their logarithms add up."""

    def __init__(self, space: Space) -> None:
        self._space = space
        width = len(features(space, Recipe()))
        self._scatter: Floats = RIDGE * np.eye(width)
        self._moments: Floats = np.zeros(width)
        self.timed = 0
        self.fastest = 1.0  # ratio

    def add(self, structure: Recipe, ratio: float) -> None:
        """A structure was timed: its latency ratio to the reference."""
        found = features(self._space, structure)
        self._scatter += np.outer(found, found)
        self._moments += found * math.log(max(ratio, 1e-6))
        self.timed += 1
        self.fastest = min(self.fastest, ratio)

    def ratios(self, recipes: Sequence[Recipe]) -> list[float]:
        """Predicted latency ratios; 1 for a recipe that changes no structure."""
        weights = np.linalg.solve(self._scatter, self._moments)
        return [float(np.exp(features(self._space, recipe) @ weights)) for recipe in recipes]

    def aimed(self, recipe: Recipe, target: float) -> Recipe:
        """The recipe with its strengths moved to where it is predicted to just meet ``target``, a latency ratio.

        The recipe as it is while fewer than ten structures were timed, or when it has no strengths; at its strongest
        when even that is predicted to be over.
        """
        if self.timed < FEWEST:
            return recipe
        moved = list(dict.fromkeys(self._space.shifted(recipe, shift) for shift in SHIFTS))
        if len(moved) == 1:
            return recipe
        predicted = self.ratios(moved)
        within = [i for i, ratio in enumerate(predicted) if ratio <= ROOM * target]
        best = max(within, key=lambda i: predicted[i]) if within else int(np.argmin(predicted))
        return moved[best]


def features(space: Space, recipe: Recipe) -> Floats:
    """Of each strategy that matters to the gate: whether it is on, its strengths, their squares."""
    gated, found = space.gated(recipe), []
    for strategy in space.families:
        step = gated.step(strategy.name)
        strengths = space.strengths(gated, strategy.name)
        found += [1.0 if step else 0.0, *strengths, *(value**2 for value in strengths)]
    return np.array(found)

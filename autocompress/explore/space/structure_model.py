"""Aiming a proposal at a latency: the sampler says which strategies go together, this says how strong they have to be.

Within a budget the most accurate structures are those that just meet it, and of those as a rule the ones that still
compute most: the number of multiply-accumulates is as good a guess of a structure's accuracy before any training as
most that were devised for it (Ning et al., "Evaluating Efficient Performance Estimators of Neural Architectures",
NeurIPS 2021). Ridge regressions of the logarithms of both, fitted on the structures that the gate has timed in this
very run, predict them. What is predicted decides only what is tried: the gate times it as it does everything else.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from autocompress.arrays import Floats
from autocompress.explore.space.space import Space
from autocompress.recipe import Recipe

FEWEST_TIMED = 6  # structures timed, below which nothing is predicted
RIDGE = 0.05
SHIFTS = np.linspace(-1, 1, 41)  # of the range of strengths
AS_FAST = 0.85  # of the target: down to here, structures count as equally fast


class StructureModel:
    """How fast structures are and how much they compute, learned from those that were timed: logarithms of their ratios
    to the reference, since ratios multiply.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._columns: dict[tuple[str, str], int] = {}  # of each strength; its square is in the next one
        self._on: dict[str, int] = {}
        width = 0
        for strategy in space.families:
            self._on[strategy.name] = width
            width += 1
            for parameter in space.strengths_of(strategy.name):
                self._columns[strategy.name, parameter.name] = width
                width += 2
        self._scatter: Floats = RIDGE * np.eye(width)
        self._moments: Floats = np.zeros((width, 2))
        self.timed = 0
        self.fastest = 1.0  # ratio

    def add(self, structure: Recipe, latency: float, macs: float) -> None:
        """A structure was timed: its latency and its multiply-accumulates, as ratios to the reference's."""
        found = self._features(structure)
        logarithms = np.log(np.maximum((latency, macs), 1e-6))
        self._scatter += np.outer(found, found)
        self._moments += np.outer(found, logarithms)
        self.timed += 1
        self.fastest = min(self.fastest, latency)

    def foretells(self, recipe: Recipe) -> bool:
        """Whether anything can be said of a recipe: it has a strength, and enough structures were timed."""
        return self.timed >= FEWEST_TIMED and bool(self._space.movable_strengths(recipe))

    def latencies(self, recipes: Sequence[Recipe]) -> list[float]:
        """Predicted latency ratios; 1 for a recipe that changes no structure."""
        predicted = self._predicted(np.array([self._features(recipe) for recipe in recipes]))
        return [float(ratio) for ratio in predicted[:, 0]]

    def aimed(self, recipe: Recipe, target: float) -> Recipe:
        """The recipe with its strengths moved to where it is predicted to just meet ``target``, a latency ratio: one,
        two or all of them, whichever leaves most multiply-accumulates.

        The recipe as it is while fewer than six structures were timed, or when it has no strengths; at its strongest
        when even that is predicted to be over.
        """
        if not self.foretells(recipe):
            return recipe
        movable = self._space.movable_strengths(recipe)
        last = np.array([len(parameter.choices) - 1 for _, parameter, _ in movable])
        now = np.array([index for *_, index in movable])
        moves = np.array(list(_subsets(len(movable))))
        moved = now + np.rint(SHIFTS[:, None, None] * moves * last).astype(int)
        indices = np.unique(np.clip(moved, 0, last).reshape(-1, len(movable)), axis=0)
        columns = np.array([self._columns[strategy, parameter.name] for strategy, parameter, _ in movable])
        strengths = indices / np.maximum(last, 1)
        features = np.tile(self._features(recipe), (len(indices), 1))
        features[:, columns], features[:, columns + 1] = strengths, strengths**2
        latency, macs = self._predicted(features).T
        within = latency <= target
        near = within & (latency >= AS_FAST * target)
        if near.any():
            best = int(np.argmax(np.where(near, macs, -math.inf)))
        elif within.any():
            best = int(np.argmax(np.where(within, latency, -math.inf)))
        else:
            best = int(np.argmin(latency))
        return self._space.moved(recipe, [int(index) for index in indices[best]])

    def _predicted(self, features: Floats) -> Floats:
        """(structures, features) -> (structures, 2): the ratios of latency and of multiply-accumulates."""
        weights = np.linalg.solve(self._scatter, self._moments)
        return np.asarray(np.exp(features @ weights))

    def _features(self, recipe: Recipe) -> Floats:
        """Of each strategy that matters to the gate: whether it is on, its strengths, their squares."""
        gated, found = self._space.gated(recipe), np.zeros(len(self._scatter))
        for step in gated.steps:
            found[self._on[step.strategy]] = 1.0
        for strategy, parameter, index in self._space.movable_strengths(gated):
            strength, at = index / max(len(parameter.choices) - 1, 1), self._columns[strategy, parameter.name]
            found[at : at + 2] = strength, strength**2
        return found


def _subsets(count: int) -> Iterator[list[bool]]:
    """Which of so many strengths to move: one, two or all of them."""
    for size in sorted({1, min(2, count), count}):
        for chosen in combinations(range(count), size):
            yield [number in chosen for number in range(count)]

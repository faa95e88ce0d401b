"""Aiming a proposal at the budget: the sampler says which strategies go together, this says how strong they have to be.

Within a budget the most accurate structures are those that just meet it. A ridge regression of the logarithm of the
latency ratio, fitted on the structures that the gate has timed in this very run, predicts what a structure takes; the
strengths of a proposal are moved together until the prediction just meets the budget. What is predicted decides only
what is tried: the gate times it as it does everything else. Pure functions on numbers.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from autocompress.explore.space import Space
from autocompress.recipe import Recipe

Floats = npt.NDArray[np.float64]
FEWEST = 10  # structures timed, below which nothing is predicted
RIDGE = 0.05
SHIFTS = [step / 20 for step in range(-20, 21)]  # of the range of strengths
ROOM = 0.97  # of the budget, to be aimed at


def aimed(recipe: Recipe, space: Space, timed: Mapping[Recipe, float], target: float) -> Recipe:
    """The recipe with its strengths moved to where it is predicted to just meet ``target``, a latency ratio.

    timed: structures (``Space.gated``) with their measured ratios. The recipe as it is while these are fewer than ten,
    or when it has no strengths; at its strongest when even that is predicted to be over.
    """
    if len(timed) < FEWEST:
        return recipe
    moved = list(dict.fromkeys(space.shifted(recipe, shift) for shift in SHIFTS))
    if len(moved) == 1:
        return recipe
    predicted = predictions(space, timed, moved)
    within = [i for i, ratio in enumerate(predicted) if ratio <= ROOM * target]
    best = max(within, key=lambda i: predicted[i]) if within else int(np.argmin(predicted))
    return moved[best]


def predictions(space: Space, timed: Mapping[Recipe, float], recipes: Sequence[Recipe]) -> list[float]:
    """Predicted latency ratios."""
    known = np.array([features(space, recipe) for recipe in timed])
    logs = np.array([math.log(max(ratio, 1e-6)) for ratio in timed.values()])
    scatter = known.T @ known + RIDGE * np.eye(known.shape[1])
    weights = np.linalg.solve(scatter, known.T @ logs)
    return [float(np.exp(features(space, recipe) @ weights)) for recipe in recipes]


def features(space: Space, recipe: Recipe) -> Floats:
    """Of each strategy that matters to the gate: whether it is on, its strengths, their squares. Ratios multiply, so
    their logarithms add up; without any strategy the ratio is 1.
    """
    gated, found = space.gated(recipe), []
    for strategy in space.families:
        step = gated.step(strategy.name)
        strengths = space.strengths(gated, strategy.name)
        found += [1.0 if step else 0.0, *strengths, *(value**2 for value in strengths)]
    return np.array(found)

"""Strategies of every stage as a search space sees them, and spaces of them."""

from collections.abc import Sequence
from typing import Any

import optuna

from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import Recipe

TEACHER = frozenset({"teacher"})
BUILD = Applicable("shrink", (Stage.BUILD,), (Parameter("width", (0.9, 0.5, 0.1), 0.5, True),))
PRUNE = Applicable(
    "carve",
    (Stage.STRUCTURE,),
    (Parameter("ratio", (0.1, 0.3, 0.5, 0.7), 0.3, True), Parameter("kind", ("l1", "l2"), "l2")),
)
FOLD = Applicable("fold", (Stage.STRUCTURE,), (Parameter("depth", (1, 2, 3), 2, True),))
TEACH = Applicable("imitate", (Stage.TRAIN,), (Parameter("alpha", (0.5, 0.9), 0.9),), TEACHER, trains_alone=True)
TUNE = Applicable("tune", (Stage.TRAIN,), (), frozenset(), TEACHER, trains_alone=True)
QUANTIZE = Applicable("squeeze", (Stage.GRAPH,), variants=({"bits": 8},))
ALL = (QUANTIZE, TUNE, TEACH, FOLD, PRUNE, BUILD)


def space_of(*applicable: Applicable, parameters: dict[str, Sequence[Any]] | None = None) -> Space:
    return Space.of(SpaceFile(name="mine", parameters=parameters or {}), applicable, [])


def sampled(space: Space, trials: int = 200, seed: int = 0) -> list[Recipe]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.sample(study.ask()) for _ in range(trials)]


def names(recipe: Recipe) -> set[str]:
    return {step.strategy for step in recipe.steps}

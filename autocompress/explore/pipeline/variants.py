"""The graph variants of a family: which go with its recipe, and which of them are worth a gate's time. Pure."""

import math
from collections.abc import Mapping, Sequence

from autocompress.plugin.contract import Applicable, Stage
from autocompress.recipe import Recipe, Step

WORTH_GATING = 1.25  # variants within this factor of the fastest on the reference are tried by the gate
ALIKE = 1.05  # within this factor of each other on the reference, one variant of a strategy stands for the others

Ratios = tuple[tuple[Step, float], ...]  # a variant, and its latency on the reference as a share of the reference's


def untimed(applicable: Sequence[Applicable], only: Sequence[str] | None) -> Ratios:
    """Every graph variant of the strategies in use, none of them timed: in no order, and with a ratio of 1."""
    return tuple((Step.of(a.name, **params), 1.0) for a in applicable if a.in_use(only) for params in a.variants)


def variants_for(
    recipe: Recipe, ratios: Ratios, applicable: Sequence[Applicable], *, trained: bool = True
) -> list[Step]:
    """The graph variants that go with the recipe: no tag conflicts with its steps, and a graph part that belongs to a
    step has that step. trained: whether those are among them that are written from what a training learned.
    """
    known = {a.name: a for a in applicable}
    on = [known[step.strategy] for step in recipe.steps if step.strategy in known]
    allowed = []
    for variant, _ in ratios:
        own = known[variant.strategy]
        conflicts = any(own.conflicts(other) for other in on if other is not own)
        can = trained or Stage.TRAIN not in own.stages
        if can and not conflicts and (own in on or own.stages == (Stage.GRAPH,)):
            allowed.append(variant)
    return allowed


def is_for_size(variant: Step | None, applicable: Sequence[Applicable]) -> bool:
    """Whether a variant is made for its size, and so kept whatever its latency."""
    return variant is not None and any(a.name == variant.strategy and a.size_only is not None for a in applicable)


def worth_gating(recipe: Recipe, ratios: Ratios, applicable: Sequence[Applicable]) -> list[Step]:
    """Of the variants that go with the recipe the ones that were fast on the reference (all, before any was timed
    there), one of those of a strategy that were equally fast, and those that are not made of it because they belong to
    a step of the recipe.
    """
    known = {a.name: a for a in applicable}
    allowed = variants_for(recipe, ratios, applicable)
    timed = {step: ratio for step, ratio in ratios if math.isfinite(ratio)}
    best = min((timed[step] for step in allowed if step in timed), default=1.0)
    elsewhere = [step for step in allowed if known[step.strategy].stages != (Stage.GRAPH,)]
    fast = [step for step in allowed if timed.get(step, math.inf) <= min(best * WORTH_GATING, 1.0)]
    kept: list[Step] = []
    for step in fast:
        if not any(_alike(step, other, timed) for other in kept):
            kept.append(step)
    return elsewhere + kept


def _alike(one: Step, other: Step, timed: Mapping[Step, float]) -> bool:
    """Whether two variants are of one strategy and were equally fast: other values in the same operators."""
    return one.strategy == other.strategy and max(timed[one], timed[other]) <= ALIKE * min(timed[one], timed[other])

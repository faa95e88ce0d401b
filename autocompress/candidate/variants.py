"""The graph variants of a family: which go with its recipe, which are worth a gate's time, and how one is made."""

import math
from pathlib import Path

from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.structure import blamed_on
from autocompress.plugin.contract import Context, GraphStrategy, Stage, stages_of
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Recipe, Step

WORTH_GATING = 1.5  # variants within this factor of the fastest on the reference are tried by the gate


def variants_for(opened: OpenTask, recipe: Recipe) -> list[Step]:
    """The graph variants that go with the recipe: no tag conflicts with its steps, and a graph part that belongs to a
    step has that step.
    """
    on = [opened.plugins.strategies[s.strategy] for s in recipe.steps if s.strategy in opened.plugins.strategies]
    allowed = []
    for variant, _ in opened.variants:
        own = opened.plugins.strategy(variant.strategy)
        conflict = any(
            own.excludes & other.provides or other.excludes & own.provides for other in on if other is not own
        )
        if not conflict and (own in on or stages_of(own) == (Stage.GRAPH,)):
            allowed.append(variant)
    return allowed


def worth_gating(opened: OpenTask, recipe: Recipe) -> list[Step]:
    """Of the variants that go with the recipe the ones that were fast on the reference (all, before any was timed
    there), and those that are not made of it because they belong to a step of the recipe.
    """
    allowed = variants_for(opened, recipe)
    timed = {step: ratio for step, ratio in opened.variants if math.isfinite(ratio)}
    best = min((timed[step] for step in allowed if step in timed), default=1.0)
    untimed = [step for step in allowed if stages_of(opened.plugins.strategy(step.strategy)) != (Stage.GRAPH,)]
    return untimed + [step for step in allowed if timed.get(step, math.inf) <= min(best * WORTH_GATING, 1.0)]


def rewrite(plugins: PluginSet, variant: Step, source: Path, target: Path, context: Context) -> None:
    """Apply one graph variant. Raises CandidateFailed naming the strategy."""
    strategy = plugins.strategy(variant.strategy)
    assert isinstance(strategy, GraphStrategy)
    with blamed_on(variant.strategy):
        strategy.apply(source, target, variant.values, context)

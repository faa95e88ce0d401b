"""Every strategy is asked whether it applies to a task, and what it offers there."""

from collections.abc import Collection

from autocompress.candidate.structure import blamed_on
from autocompress.errors import CandidateFailed
from autocompress.plain_model import scripted_part
from autocompress.plugin.contract import (
    Applicable,
    Context,
    GraphStrategy,
    Parameter,
    Refusal,
    Stage,
    Strategy,
    TrainingStrategy,
    stages_of,
)
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Value
from autocompress.supervisor import Supervisor


def survey(
    context: Context, plugins: PluginSet, only: Collection[str] | None = None, supervisor: Supervisor | None = None
) -> tuple[tuple[Applicable, ...], tuple[Refusal, ...]]:
    """Ask every strategy, or those of ``only``, whether it applies; a strategy whose answer raises does not."""
    supervisor = supervisor or Supervisor()
    applicable: list[Applicable] = []
    refused: list[Refusal] = []
    for name, strategy in sorted(plugins.strategies.items()):
        if only is not None and name not in only:
            continue
        try:
            with supervisor.during("open", f"does {name} apply?"), blamed_on(name):
                reason = _refusal(strategy, context)
                if reason is None:
                    applicable.append(_described(strategy, context))
                    continue
        except CandidateFailed as error:
            reason = f"it failed when asked: {error.reason}"
        refused.append(Refusal(name, reason))
    return tuple(applicable), tuple(refused)


def graph_survey(
    context: Context, plugins: PluginSet, only: Collection[str] | None = None, supervisor: Supervisor | None = None
) -> tuple[tuple[Applicable, ...], tuple[Refusal, ...]]:
    """Ask the strategies with a graph part alone: what they offer depends on the reference's file, and on whether
    scores count; what the others offer depends on neither.
    """
    in_use = plugins.strategies if only is None else only
    graph = {name for name in in_use if Stage.GRAPH in stages_of(plugins.strategy(name))}
    return survey(context, plugins, graph, supervisor)


def _refusal(strategy: Strategy, context: Context) -> str | None:
    if not stages_of(strategy):
        return "it has no structure, training or graph part"
    scripted = scripted_part(context.model)
    if scripted is not None and set(stages_of(strategy)) != {Stage.GRAPH}:
        return (
            f"{scripted or 'the model'} is of torch.jit, whose layers can be neither seen nor changed: give the module "
            "that it was made of"
        )
    if strategy.precision is not None and strategy.precision not in context.profile.precisions:
        return f"the profile {context.profile.name} does not run {strategy.precision}"
    return strategy.refuses(context)


def _described(strategy: Strategy, context: Context) -> Applicable:
    """What a strategy says of itself; raises when that is not what a search can use."""
    parameters = tuple(strategy.parameters(context))
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            raise TypeError(f"parameters gave {type(parameter).__name__}, expected Parameter")
    for tags in (strategy.provides, strategy.excludes):
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
            raise TypeError(f"tags must be a set of words, not {tags!r}")
    variants = tuple(dict(v) for v in strategy.variants(context)) if isinstance(strategy, GraphStrategy) else ()
    for name, value in (pair for variant in variants for pair in variant.items()):
        if not isinstance(value, Value):
            raise TypeError(f"a variant's {name} must be a number, a word or true/false, not {value!r}")
    size_only = strategy.size_only(context)
    return Applicable(
        name=strategy.name,
        stages=stages_of(strategy),
        parameters=parameters,
        provides=frozenset(strategy.provides),
        excludes=frozenset(strategy.excludes),
        variants=variants,
        size_only=size_only,
        trains_alone=isinstance(strategy, TrainingStrategy) and strategy.trains_alone,
    )

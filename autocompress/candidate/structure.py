"""The structural steps of a recipe: plan, then apply the plan to a private copy of the model."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from autocompress.errors import CandidateFailed, DataError, Interrupted, one_line
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Context, Counterparts, StructureStrategy
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Plan, Recipe, Step
from autocompress.storage.atomic import is_full, no_space


class KnownPlans(Protocol):
    """What was planned before, by the structural steps that it depends on: the step itself and all before it."""

    def get(self, prefix: Sequence[Step]) -> Plan | None: ...
    def put(self, prefix: Sequence[Step], plan: Plan) -> None: ...


RepairStep = Callable[[Step, Counterparts, nn.Module], None]  # of what a step made, in place


def structural(recipe: Recipe, plugins: PluginSet) -> tuple[Step, ...]:
    """The steps of a recipe that change the structure, in order."""
    return tuple(s for s in recipe.steps if isinstance(plugins.strategies.get(s.strategy), StructureStrategy))


def build(
    recipe: Recipe,
    context: Context,
    plugins: PluginSet,
    plans: Sequence[Plan] | None = None,
    known: KnownPlans | None = None,
    repair: RepairStep | None = None,
) -> tuple[nn.Module, tuple[dict[str, Any], ...]]:
    """The recipe's untrained structure and the plans that made it.

    plans: replay these instead of planning anew; one for each structural step, in order. known: plans of other recipes
    that begin with the same structural steps. repair: called after each step that says which layers stand for which.
    Raises CandidateFailed naming the strategy.
    """
    model = context.task.copy_of_model()
    decided: list[dict[str, Any]] = []
    prefix: list[Step] = []
    for step in recipe.steps:
        strategy = plugins.strategies.get(step.strategy)
        if not isinstance(strategy, StructureStrategy):
            continue
        prefix.append(step)
        with blamed_on(step.strategy):
            found = plans[len(decided)] if plans is not None else known.get(prefix) if known else None
            if found is None:
                found = json.loads(json.dumps(dict(strategy.plan(model, step.values, context))))  # as it is stored
                if known:
                    known.put(prefix, found)
            plan = dict(found)
            counterparts = strategy.counterparts(model, plan, context) if repair else None
            model = strategy.apply(model, plan, context)
            if not isinstance(model, nn.Module):
                raise CandidateFailed(f"apply returned {type(model).__name__}, expected a module", step.strategy)
            if repair and counterparts is not None:
                repair(step, counterparts, model)
        decided.append(plan)
    return evaluating(model), tuple(decided)


@contextmanager
def blamed_on(strategy: str) -> Iterator[None]:
    """The boundary to a plug-in's code: whatever it raises fails this candidate, with the plug-in named."""
    try:
        yield
    except CandidateFailed as error:
        raise CandidateFailed(error.reason, error.strategy or strategy) from error
    except (Interrupted, DataError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and is_full(error):
            raise no_space(Path(error.filename or "."), error) from error
        raise CandidateFailed(f"{type(error).__name__}: {one_line(error)}", strategy) from error

"""A smaller student: the user's own smaller model, or a copy of the reference with everything narrower by one factor
and with fewer blocks.

Changes: the whole model, before any other step: channels, recurrent units, heads and MLPs alike, and the depth by how
many of the blocks that the model can do without are dropped, least harmful first. Needs: ``Task.student``, or a model
with parts that can shrink. Follows: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015;
inherited weights and every other layer left out as in Sanh et al., "DistilBERT", 2019, here in the order of
``block_order``. With fresh weights every layer that can reset itself does; a model's own parameters (positions, class
tokens) stay.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.kept_parts import is_frozen, why_kept
from autocompress.plain_model import plain_copy, scripted_part
from autocompress.plugin.contract import (
    Context,
    Counterparts,
    Parameter,
    Params,
    Plan,
    Stage,
    Strategy,
    StructureStrategy,
)
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.block_order import least_harmful, most_dropped
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.counterparts import smaller_counterparts
from autocompress_plugins.shrinking.groups import EVERY_KIND
from autocompress_plugins.shrinking.narrowing import Amount

autocompress_api = 2

WIDTHS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1)
WIDTH_MULTIPLE = 8  # kernels work on channels in blocks; odd widths are slower than the next larger even ones


class Student(StructureStrategy):
    name = "student"
    summary = "a narrower and shallower model, with inherited or fresh weights"
    stage = Stage.BUILD

    def parameters(self, context: Context) -> Sequence[Parameter]:
        found = [Parameter("width", WIDTHS, 0.5, by_strength=True)]
        own = ("own",) if context.task.student is not None else ()
        if not own or _refuses_a_copy(context) is None:
            if not own and (most := most_dropped(context)):  # of one's own the depth stays
                found.append(Parameter("dropped", tuple(range(most + 1)), 0, by_strength=True))
            weights = (*own, "inherited", "fresh")
            found.append(Parameter("weights", weights, weights[0]))
        return found

    def refuses(self, context: Context) -> str | None:
        if context.task.student is not None:
            return None
        reason = _refuses_a_copy(context)
        return reason and f"{reason}; give Task.student to search your own smaller model"

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        width = float(params["width"])
        count = int(params.get("dropped", 0))
        if params.get("weights", "own") == "own":
            if count:
                raise CandidateFailed("Task.student decides the depth of its model: no blocks are dropped from it")
            widths = getattr(context.task.student, "widths", (width,))
            return {"width": min(widths, key=lambda own: abs(own - width)), "seed": context.seed}
        dropped = least_harmful(model, count, context) if count else []
        amount = Amount(dict.fromkeys(sorted(EVERY_KIND), 1 - width), criterion="surgeon", round_to=WIDTH_MULTIPLE)
        narrower = narrowing.plan(without(copy.deepcopy(model), dropped), amount, context)
        return {"drop": dropped, **narrower, "seed": context.seed if params["weights"] == "fresh" else None}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        if "remove" not in plan:
            return _own(context, plan["width"], plan["seed"])
        model = narrowing.apply(without(model, plan["drop"]), plan, context)
        if plan["seed"] is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(plan["seed"])
                for module in model.modules():
                    if why_kept(module) is not None or is_frozen(module):
                        continue
                    for reset in ("reset_parameters", "_reset_parameters"):  # the second is nn.MultiheadAttention's
                        getattr(module, reset, lambda: None)()
        return model

    def counterparts(self, model: nn.Module, plan: Plan, context: Context) -> Counterparts | None:
        if "remove" not in plan or plan["seed"] is not None:
            return None  # fresh weights stand for nothing
        return smaller_counterparts(model, plan["drop"], plan["remove"], context)


def _refuses_a_copy(context: Context) -> str | None:
    return narrowing.refuses(context, EVERY_KIND, "no layer can be narrowed")


def _own(context: Context, width: float, seed: int) -> nn.Module:
    assert context.task.student is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = context.task.student(width)
    if not isinstance(built, nn.Module):
        raise CandidateFailed(f"Task.student({width}) returned {type(built).__name__}, expected a module")
    if scripted_part(built) is not None:
        raise CandidateFailed(f"Task.student({width}) returned a module of torch.jit, whose layers cannot be changed")
    return plain_copy(built)


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [Student()]

"""A smaller student: the user's own smaller model, or a copy of the reference with everything narrower by one factor.

Changes: the whole model, before any other step: channels, recurrent units, heads and MLPs alike. Needs:
``Task.student``, or a model with parts that can shrink. Follows: Hinton, Vinyals & Dean, "Distilling the Knowledge in a
Neural Network", 2015; inherited weights as in Sanh et al., "DistilBERT", 2019. With fresh weights every layer that can
reset itself does; a model's own parameters (positions, class tokens) stay.
"""

from collections.abc import Sequence

import torch
from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Parameter, Params, Plan, Stage, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.groups import CHANNELS, HEADS, MLP, RECURRENT
from autocompress_plugins.pruning.narrowing import Amount, Narrowing

KINDS = frozenset({CHANNELS, RECURRENT, HEADS, MLP})
WIDTHS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1)
ROUND_TO = 8  # kernels work on channels in blocks; odd widths are slower than the next larger even ones


class Student(StructureStrategy):
    name = "student"
    summary = "a uniformly narrower model, with inherited or fresh weights"
    stage = Stage.BUILD

    def __init__(self) -> None:
        self._narrowing = Narrowing()

    def parameters(self, context: Context) -> Sequence[Parameter]:
        width = Parameter("width", WIDTHS, 0.5, by_strength=True)
        if context.task.student is not None:
            return (width,)
        return width, Parameter("weights", ("inherited", "fresh"), "inherited")

    def refuses(self, context: Context) -> str | None:
        if context.task.student is not None:
            return None
        reason = self._narrowing.refuses(context, KINDS, "no layer can be narrowed")
        return reason and f"{reason}; give Task.student to search your own smaller model"

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        width = float(params["width"])
        if context.task.student is not None:
            return {"width": width, "seed": context.seed}
        amount = Amount(dict.fromkeys(sorted(KINDS), 1 - width), round_to=ROUND_TO)
        plan = self._narrowing.plan(model, amount, context)
        return {**plan, "seed": context.seed if params["weights"] == "fresh" else None}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        if "remove" not in plan:
            return _own(context, plan["width"], plan["seed"])
        model = self._narrowing.apply(model, plan, context)
        if plan["seed"] is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(plan["seed"])
                for module in model.modules():
                    for reset in ("reset_parameters", "_reset_parameters"):  # the second is nn.MultiheadAttention's
                        getattr(module, reset, lambda: None)()
        return model


def _own(context: Context, width: float, seed: int) -> nn.Module:
    assert context.task.student is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = context.task.student(width)
    if not isinstance(built, nn.Module):
        raise CandidateFailed(f"Task.student({width}) returned {type(built).__name__}, expected a module")
    return built.cpu().float()


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [Student()]

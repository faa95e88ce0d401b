"""Depth pruning: whole residual blocks, transformer layers and recurrent layers are taken out, least harmful first.

Changes: how many blocks there are; what is left is as it was. Needs: blocks that give back the shape they are given.
Follows: Veit et al., "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", NIPS 2016; Men et al.,
"ShortGPT", 2024, with the harm measured as the task's own loss on training examples, and measured again after each
drop.
"""

import copy
import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import nn

from autocompress.data import call, primary
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Parameter, Params, Plan, Sensitivity, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.blocks import droppable, without

EXAMPLES = 256
SHORTLIST = 3  # of the blocks that did least harm alone, measured again after each drop


class DropBlocks(StructureStrategy):
    name = "drop_blocks"
    summary = "take out whole blocks and recurrent layers, least harmful first"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        most = max(1, len(droppable(context.model, context.example_inputs).names) - 1)
        return (Parameter("count", tuple(range(1, most + 1)), (most + 1) // 2, by_strength=True),)

    def refuses(self, context: Context) -> str | None:
        found = droppable(context.model, context.example_inputs)
        if found.names:
            return None
        reasons = "; ".join(f"{name}: {why}" for name, why in list(found.kept.items())[:3])
        return f"no block or recurrent layer gives back the shape it is given{f' ({reasons})' if reasons else ''}"

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        count, names = int(params["count"]), droppable(model, context.example_inputs).names
        if len(names) < count:
            raise CandidateFailed(f"{count} blocks to drop, but only {len(names)} can be: {', '.join(names) or 'none'}")
        loss_without = _measure(model, context)
        alone = {name: loss_without([name]) for name in names}
        left, dropped = sorted(names, key=alone.__getitem__), []
        dropped.append(left.pop(0))
        while len(dropped) < count:
            least = min(left[:SHORTLIST], key=lambda name: loss_without([*dropped, name]))
            left.remove(least)
            dropped.append(least)
        return {"drop": dropped}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        return without(model, plan["drop"])

    def sensitivity(self, context: Context) -> Sequence[Sensitivity]:
        loss_without = _measure(context.model, context)
        names, whole = droppable(context.model, context.example_inputs).names, loss_without([])
        found = [Sensitivity(name, units=1, share=1.0, loss=loss_without([name]) - whole) for name in names]
        return sorted(found, key=lambda part: -part.loss)


def _measure(model: nn.Module, context: Context) -> Callable[[Collection[str]], float]:
    """What the task's loss over the same training examples is without some units; infinite where it is no number."""
    batches = list(context.train_batches(EXAMPLES))

    def loss_without(dropped: Collection[str]) -> float:
        smaller, total = without(copy.deepcopy(model).eval(), dropped), 0.0
        with torch.inference_mode():
            for batch in batches:
                value = context.task.loss_fn(primary(call(smaller, batch.inputs)), batch.targets)
                total += float(value) * len(batch.targets)
        mean = total / sum(len(batch.targets) for batch in batches)
        return mean if math.isfinite(mean) else math.inf

    return loss_without


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [DropBlocks()]

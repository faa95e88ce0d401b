"""Depth pruning: whole residual blocks, transformer layers and recurrent layers are taken out, least harmful first.

Changes: how many blocks there are; what is left is as it was. Needs: blocks that give back the shape they are given.
Follows: Veit et al., "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", NIPS 2016; Men et al.,
"ShortGPT", 2024, with the harm measured as the task's own loss on training examples, and measured again after each
drop. It is measured on the reference, whose weights are trained: what the loss of a model that other steps have changed
rises by says little.
"""

import copy
import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import nn

from autocompress.data import Split, call, primary
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Parameter, Params, Plan, Sensitivity, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.blocks import droppable, without
from autocompress_plugins.pruning.state import state_of

EXAMPLES = 256
SHORTLIST = 3  # of the blocks that did least harm alone, measured again after each drop


class DropBlocks(StructureStrategy):
    name = "drop_blocks"
    summary = "take out whole blocks and recurrent layers, least harmful first"

    def __init__(self) -> None:
        # By data and reference: an instance serves many plans, and a longer one begins as a shorter one.
        self._orders: dict[tuple[Split, str], _Order] = {}

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
        key = context.train, state_of(context.model)
        if key not in self._orders:
            known = droppable(context.model, context.example_inputs).names
            self._orders = {key: _Order(known, _measure(context.model, context))}
        return {"drop": self._orders[key].first(count, names)}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        return without(model, plan["drop"])

    def sensitivity(self, context: Context) -> Sequence[Sensitivity]:
        loss_without = _measure(context.model, context)
        names, whole = droppable(context.model, context.example_inputs).names, loss_without([])
        found = [Sensitivity(name, units=1, share=1.0, loss=loss_without([name]) - whole) for name in names]
        return sorted(found, key=lambda part: -part.loss)


class _Order:
    """The units in the order in which they go."""

    def __init__(self, names: Sequence[str], loss_without: Callable[[Collection[str]], float]) -> None:
        self._loss_without = loss_without
        alone = {name: loss_without([name]) for name in names}
        self._left = sorted(names, key=alone.__getitem__)
        self._gone: list[str] = []

    def first(self, count: int, names: Sequence[str]) -> list[str]:
        """``count`` of ``names``; those that the reference could not do without come last."""
        chosen = [name for name in self._gone if name in names]
        while self._left and len(chosen) < count:
            least = min(self._left[:SHORTLIST], key=lambda name: self._loss_without([*self._gone, name]))
            self._left.remove(least)
            self._gone.append(least)
            chosen += [least] if least in names else []
        return [*chosen, *(name for name in names if name not in self._gone)][:count]


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

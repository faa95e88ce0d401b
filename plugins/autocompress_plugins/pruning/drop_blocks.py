"""Depth pruning: whole residual blocks, transformer layers and recurrent layers are taken out, least harmful first.

Changes: how many blocks there are; what is left is as it was. Needs: blocks that give back the shape they are given.
Follows: Veit et al., "Residual Networks Behave Like Ensembles of Relatively Shallow Networks", NIPS 2016; Men et al.,
"ShortGPT", 2024, with the order of ``block_order``.
"""

import copy
from collections.abc import Mapping, Sequence

from torch import nn

from autocompress.plugin.contract import (
    Context,
    Counterparts,
    Parameter,
    Params,
    Plan,
    ShrinkableGroup,
    Strategy,
    StructureStrategy,
)
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.reasons import because
from autocompress_plugins.shrinking.block_order import (
    droppable_of_reference,
    least_harmful,
    most_dropped,
)
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.counterparts import shortened_counterparts

autocompress_api = 2


class DropBlocks(StructureStrategy):
    name = "drop_blocks"
    summary = "take out whole blocks and recurrent layers, least harmful first"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        most = most_dropped(context)
        return (Parameter("count", tuple(range(1, most + 1)), (most + 1) // 2, by_strength=True),)

    def refuses(self, context: Context) -> str | None:
        found = droppable_of_reference(context)
        if found.names:
            return None
        return because("no block or recurrent layer gives back the shape it is given", found.kept)

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        return {"drop": least_harmful(model, int(params["count"]), context)}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        return without(model, plan["drop"])

    def counterparts(self, model: nn.Module, plan: Plan, context: Context) -> Counterparts:
        return shortened_counterparts(model, plan["drop"])

    def shrinkable_groups(self, context: Context) -> Sequence[ShrinkableGroup]:
        def left(name: str) -> int:
            return sum(value.numel() for value in without(copy.deepcopy(context.model), [name]).parameters())

        def block(name: str) -> ShrinkableGroup:
            return ShrinkableGroup(name, 1, (1,), lambda _: {"drop": [name]})

        return [block(name) for name in sorted(droppable_of_reference(context).names, key=left)]

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return droppable_of_reference(context).kept


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [DropBlocks()]

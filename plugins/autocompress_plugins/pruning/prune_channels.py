"""Structured pruning: removes whole channels, and everything that depends on them, from convolutions, linear layers and
embeddings.

Changes: widths; the result is an ordinary, smaller dense model. Needs: layers whose removal the dependency graph gets
right, which is checked group by group. Follows: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017; Fang et
al., "DepGraph", CVPR 2023; the criteria are named in ``importance``, the allocations in ``allocation``.
"""

from collections.abc import Mapping, Sequence

from torch import nn

from autocompress.plugin.contract import Context, Parameter, Params, Plan, Sensitivity, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.groups import CHANNELS
from autocompress_plugins.pruning.importance import BATCH_NORMS
from autocompress_plugins.pruning.narrowing import Amount, Narrowing

KINDS = frozenset({CHANNELS})
RATIOS = tuple(round(0.1 + 0.05 * i, 2) for i in range(17))


class PruneChannels(StructureStrategy):
    name = "prune_channels"
    summary = "remove whole channels, least important first (dependency graph)"

    def __init__(self) -> None:
        self._narrowing = Narrowing()

    def parameters(self, context: Context) -> Sequence[Parameter]:
        criteria = ["l1", "l2", "taylor", "lamp"]
        if any(isinstance(module, BATCH_NORMS) for module in context.model.modules()):
            criteria.append("bn_scale")
        return (
            Parameter("ratio", RATIOS, 0.5, by_strength=True),
            Parameter("importance", tuple(criteria), "l2"),
            Parameter("allocation", ("uniform", "global", "sensitivity"), "uniform"),
            Parameter("schedule", ("at_once", "bottom_up"), "at_once"),
            Parameter("round_to", (16, 8, 4, 1), 8),
        )

    def refuses(self, context: Context) -> str | None:
        return self._narrowing.refuses(context, KINDS, "no layer has channels that can be removed")

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        amount = Amount(
            {CHANNELS: float(params["ratio"])},
            criterion=str(params["importance"]),
            allocation=str(params["allocation"]),
            bottom_up=params["schedule"] == "bottom_up",
            round_to=int(params["round_to"]),
        )
        return self._narrowing.plan(model, amount, context)

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        return self._narrowing.apply(model, plan, context)

    def sensitivity(self, context: Context) -> Sequence[Sensitivity]:
        return self._narrowing.sensitivity(context, KINDS)

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return self._narrowing.left_alone(context, KINDS)


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [PruneChannels()]

"""Structured pruning: removes whole channels, and everything that depends on them, from convolutions, linear layers and
embeddings.

Changes: widths; the result is an ordinary, smaller dense model. Needs: layers whose removal the dependency graph gets
right, which is checked group by group. Follows: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017; Fang et
al., "DepGraph", CVPR 2023; the criteria are named in ``importance``, the allocations in ``allocation``.
"""

from collections.abc import Sequence

from autocompress.plugin.contract import Context, Parameter, Params, Strategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.layer_kinds import BATCH_NORMS
from autocompress_plugins.pruning.unit_pruning import ALLOCATION, RATIO, UnitPruning, importance_parameter
from autocompress_plugins.shrinking.groups import CHANNELS
from autocompress_plugins.shrinking.narrowing import Amount

autocompress_api = 2


class PruneChannels(UnitPruning):
    name = "prune_channels"
    summary = "remove whole channels, least important first (dependency graph)"
    kinds = frozenset({CHANNELS})
    nothing = "no layer has channels that can be removed"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        normed = any(isinstance(module, BATCH_NORMS) for module in context.model.modules())
        return (
            RATIO,
            importance_parameter("lamp", *(["bn_scale"] if normed else [])),
            ALLOCATION,
            Parameter("schedule", ("at_once", "bottom_up"), "at_once"),
            Parameter("round_to", (16, 8, 4, 1), 8),
        )

    def amount(self, params: Params) -> Amount:
        ratios = {CHANNELS: float(params["ratio"])}
        return Amount(ratios, bottom_up=params["schedule"] == "bottom_up", round_to=int(params["round_to"]))


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [PruneChannels()]

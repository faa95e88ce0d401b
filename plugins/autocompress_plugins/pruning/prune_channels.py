"""Structured channel pruning: removes whole output channels of convolutions and linear layers, and all that depends
on them.

Changes: the widths of the layers; the model stays dense and runs faster everywhere. Needs: a model whose dependency
graph can be traced (no recurrent layers). Follows: Fang et al., "DepGraph", CVPR 2023; importances: Li et al.,
"Pruning Filters for Efficient ConvNets", ICLR 2017 (l1, l2); Molchanov et al., "Importance Estimation for Neural
Network Pruning", CVPR 2019 (taylor).
"""

import copy
from collections.abc import Sequence

import torch_pruning as tp
from torch import nn

from autocompress.data import call, primary
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Parameter, Params, Plan, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.channel_graph import ChannelGraph, replay

TAYLOR_EXAMPLES = 512
RATIOS = tuple(round(0.1 + 0.05 * i, 2) for i in range(17))


class PruneChannels(StructureStrategy):
    name = "prune_channels"
    summary = "remove whole channels, least important first (dependency graph)"

    def __init__(self) -> None:
        self._graph = ChannelGraph()

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (
            Parameter("ratio", RATIOS, 0.5, by_strength=True),
            Parameter("importance", ("l1", "l2", "taylor"), "l2"),
            Parameter("allocation", ("uniform", "global"), "uniform"),
            Parameter("round_to", (16, 8, 4, 1), 8, by_strength=True),
        )

    def refuses(self, context: Context) -> str | None:
        try:
            channels = self._graph.channels(context.model, context.example_inputs)
        except CandidateFailed as error:
            return error.reason
        if channels.names:
            return None
        reasons = "; ".join(f"{name}: {why}" for name, why in list(channels.kept.items())[:3])
        return f"no layer has channels that can be removed ({reasons or 'no convolution or linear layer'})"

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        model, inputs = copy.deepcopy(model), context.example_inputs
        ratio, round_to = float(params["ratio"]), int(params["round_to"])
        power = {"l1": 1, "l2": 2}.get(str(params["importance"]))
        if power is None:
            self._gradients(model, context)
        importance = tp.importance.MagnitudeImportance(p=power) if power else tp.importance.TaylorImportance()
        if params["allocation"] == "global":
            widths = self._graph.by_importance(model, inputs, ratio, importance, round_to)
        else:
            widths = self._graph.uniform(model, inputs, ratio, round_to)
        return {"history": self._graph.prune(model, inputs, widths, importance), "widths": widths}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        return replay(model, context.example_inputs, plan["history"])

    def _gradients(self, model: nn.Module, context: Context) -> None:
        """Gradients of the task's loss over a few hundred examples, for the first-order Taylor importance."""
        model.eval().zero_grad()
        for batch in context.train_batches(TAYLOR_EXAMPLES):
            context.task.loss_fn(primary(call(model, batch.inputs)), batch.targets).backward()  # type: ignore[no-untyped-call]


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [PruneChannels()]

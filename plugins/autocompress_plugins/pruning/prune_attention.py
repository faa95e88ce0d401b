"""Pruning of transformers: removes whole attention heads and narrows the MLPs.

Changes: the number of heads of each attention, the hidden width of each MLP; the width between the layers stays.
Needs: self-attention in one of the forms that ``attention_layers`` knows or recognises, where removing a head equals
zeroing it in the original to 1e-4. Follows: Michel, Levy & Neubig, "Are Sixteen Heads Really Better than One?",
NeurIPS 2019; for both together Kwon et al., "A Fast Post-Training Pruning Framework for Transformers", NeurIPS 2022.
"""

from collections.abc import Mapping, Sequence

from torch import nn

from autocompress.plugin.contract import Context, Parameter, Params, Plan, Sensitivity, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.groups import HEADS, MLP
from autocompress_plugins.pruning.narrowing import Amount, Narrowing

KINDS = frozenset({HEADS, MLP})
SHARES = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875)


class PruneAttention(StructureStrategy):
    name = "prune_attention"
    summary = "remove attention heads and hidden units of the MLPs"

    def __init__(self) -> None:
        self._narrowing = Narrowing()

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (
            Parameter("mlp", SHARES, 0.5, by_strength=True),
            Parameter("heads", SHARES, 0.25, by_strength=True),
            Parameter("importance", ("l1", "l2", "taylor"), "l2"),
            Parameter("allocation", ("uniform", "global", "sensitivity"), "uniform"),
        )

    def refuses(self, context: Context) -> str | None:
        return self._narrowing.refuses(context, KINDS, "no attention was found whose heads can be removed")

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        amount = Amount(
            {HEADS: float(params["heads"]), MLP: float(params["mlp"])},
            criterion=str(params["importance"]),
            allocation=str(params["allocation"]),
            round_to=8,
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
    return [PruneAttention()]

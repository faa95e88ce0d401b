"""Pruning of recurrent layers: removes hidden units of LSTM, GRU and RNN, of each layer and direction.

Changes: hidden sizes, and what reads them; a stack becomes a chain of layers that may differ in size. Needs: recurrent
layers that start from a zero state, and outputs whose readers can be found, which is checked. Follows: the structured
form of See, Luong & Manning, "Compression of Neural Machine Translation Models via Pruning", 2016, and Wen et al.,
"Learning Intrinsic Sparse Structures within Long Short-Term Memory", ICLR 2018: a unit goes with its row in every gate,
its recurrent column, and its column in whatever reads it.
"""

from collections.abc import Mapping, Sequence

from torch import nn

from autocompress.plugin.contract import Context, Parameter, Params, Plan, Sensitivity, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.groups import RECURRENT
from autocompress_plugins.pruning.narrowing import Amount, Narrowing

KINDS = frozenset({RECURRENT})
RATIOS = tuple(round(0.1 + 0.05 * i, 2) for i in range(17))


class PruneRecurrent(StructureStrategy):
    name = "prune_recurrent"
    summary = "remove hidden units of LSTM, GRU and RNN layers, least important first"

    def __init__(self) -> None:
        self._narrowing = Narrowing()

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (
            Parameter("ratio", RATIOS, 0.5, by_strength=True),
            Parameter("importance", ("l1", "l2", "taylor"), "l2"),
            Parameter("allocation", ("uniform", "global", "sensitivity"), "uniform"),
            Parameter("round_to", (8, 4, 1), 4),
        )

    def refuses(self, context: Context) -> str | None:
        return self._narrowing.refuses(context, KINDS, "no recurrent layer has units that can be removed")

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        amount = Amount(
            {RECURRENT: float(params["ratio"])},
            criterion=str(params["importance"]),
            allocation=str(params["allocation"]),
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
    return [PruneRecurrent()]

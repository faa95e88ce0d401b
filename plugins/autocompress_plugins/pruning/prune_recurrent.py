"""Pruning of recurrent layers: removes hidden units of LSTM, GRU and RNN, of each layer and direction.

Changes: hidden sizes, and what reads them; a stack becomes a chain of layers that may differ in size. Needs: recurrent
layers that start from a zero state, or cells, and outputs whose readers can be found, which is checked. Follows: the
structured form of See, Luong & Manning, "Compression of Neural Machine Translation Models via Pruning", 2016, and Wen
et al., "Learning Intrinsic Sparse Structures within Long Short-Term Memory", ICLR 2018: a unit goes with its row in
every gate, its recurrent column, and its column in whatever reads it.
"""

from collections.abc import Sequence

from autocompress.plugin.contract import Context, Parameter, Params, Strategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.unit_pruning import ALLOCATION, RATIO, UnitPruning, importance_parameter
from autocompress_plugins.shrinking.groups import RECURRENT
from autocompress_plugins.shrinking.narrowing import Amount

autocompress_api = 2


class PruneRecurrent(UnitPruning):
    name = "prune_recurrent"
    summary = "remove hidden units of LSTM, GRU and RNN layers, least important first"
    kinds = frozenset({RECURRENT})
    nothing = "no recurrent layer has units that can be removed"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return RATIO, importance_parameter(), ALLOCATION, Parameter("round_to", (8, 4, 1), 4)

    def amount(self, params: Params) -> Amount:
        return Amount({RECURRENT: float(params["ratio"])}, round_to=int(params["round_to"]))


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [PruneRecurrent()]

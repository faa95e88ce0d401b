"""Pruning of transformers: removes whole attention heads and narrows the MLPs.

Changes: the number of heads of each attention, the hidden width of each MLP; the width between the layers stays.
Needs: attention where removing a head equals zeroing it in the original to 1e-4: nn.MultiheadAttention, what
``attention_recognition`` makes out, or the model's own (``own_attention``).
Follows: Michel, Levy & Neubig, "Are Sixteen Heads Really Better than One?", NeurIPS 2019; for both together Kwon et
al., "A Fast Post-Training Pruning Framework for Transformers", NeurIPS 2022.
"""

from collections.abc import Sequence

from autocompress.plugin.contract import Context, Parameter, Params, Strategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.pruning.unit_pruning import ALLOCATION, UnitPruning, importance_parameter
from autocompress_plugins.shrinking.groups import HEADS, MLP
from autocompress_plugins.shrinking.narrowing import Amount

autocompress_api = 2

SHARES = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875)
MLP_ROUND_TO = 8  # kernels work on channels in blocks; heads go one by one


class PruneAttention(UnitPruning):
    name = "prune_attention"
    summary = "remove attention heads and hidden units of the MLPs"
    kinds = frozenset({HEADS, MLP})
    nothing = "no attention was found whose heads can be removed"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (
            Parameter("mlp", SHARES, 0.5, by_strength=True),
            Parameter("heads", SHARES, 0.25, by_strength=True),
            importance_parameter(),
            ALLOCATION,
        )

    def amount(self, params: Params) -> Amount:
        return Amount({HEADS: float(params["heads"]), MLP: float(params["mlp"])}, round_to=MLP_ROUND_TO)


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [PruneAttention()]

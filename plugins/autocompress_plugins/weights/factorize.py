"""Low-rank factorization: one matrix becomes the product of two thinner ones, by truncated singular values.

Changes: a linear layer into two, a convolution into one with fewer channels and a 1x1 one behind it; both are plain
layers. Needs: layers wide enough that two thin ones are cheaper. Left alone, with the reason: layers that are not
simply called (attention reads the weights of its projection), recurrent layers, tied weights. Follows: Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016 (convolutions by
channels); Denton et al., "Exploiting Linear Structure Within Convolutional Networks", NIPS 2014.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Counterparts, Parameter, Params, Plan, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.reasons import because
from autocompress_plugins.shrinking.counterparts import factored_counterparts
from autocompress_plugins.weights.matrices import matrices
from autocompress_plugins.weights.thin_layers import factorizable, matrix_of, put_two

autocompress_api = 2

SHARES_KEPT = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of the cost or of the energy, as the rule says
LEAST_SHARE = 0.05  # of the weights in layers that can be factorized; with less, nothing gets noticeably faster
RANK_MULTIPLE = 8  # kernels work on channels in blocks
CHEAP_ENOUGH = 0.95  # of a layer's parameters and multiply-accumulates: two calls instead of one have their own cost


class Factorize(StructureStrategy):
    name = "factorize"
    summary = "two thin layers in place of a wide one (truncated singular values)"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (Parameter("keep", SHARES_KEPT, 0.5, by_strength=True), Parameter("rule", ("ratio", "energy"), "ratio"))

    def refuses(self, context: Context) -> str | None:
        found = factorizable(context.model, context.example_inputs)
        weights = matrices(context.model)
        total = sum(weight.numel() for weight in weights.values())
        share = sum(weights[f"{name}.weight"].numel() for name in found.names) / max(total, 1)
        if share >= LEAST_SHARE:
            return None
        if not found.names and not found.kept:
            return "there is no linear layer and no convolution"
        return because(f"the layers that can be factorized hold {share:.0%} of the weights", found.kept)

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        keep, rule = float(params["keep"]), str(params["rule"])
        ranks = {}
        for name in factorizable(model, context.example_inputs).names:
            weight = matrix_of(model.get_submodule(name))
            rank = _by_ratio(weight, keep) if rule == "ratio" else _by_energy(weight, keep)
            if rank <= CHEAP_ENOUGH * _break_even(weight):
                ranks[name] = rank
        if not ranks:
            raise CandidateFailed(f"no layer would become cheaper at keep={keep:g} by {rule}")
        return {"ranks": ranks}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        for name, rank in plan["ranks"].items():
            u, s, v = torch.linalg.svd(matrix_of(model.get_submodule(name)).double(), full_matrices=False)
            root = s[:rank].sqrt()
            put_two(model, name, (root[:, None] * v[:rank]).float(), (u[:, :rank] * root).float())
        return model

    def counterparts(self, model: nn.Module, plan: Plan, context: Context) -> Counterparts:
        return factored_counterparts(model, list(plan["ranks"]))

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return factorizable(context.model, context.example_inputs).kept


def _break_even(weight: Tensor) -> float:
    """The rank at which two layers cost what the one does, in parameters and in multiply-accumulates."""
    return weight.numel() / sum(weight.shape)


def _by_ratio(weight: Tensor, keep: float) -> int:
    """The rank at which the two cost ``keep`` of the one."""
    return _rounded(keep * _break_even(weight))


def _by_energy(weight: Tensor, keep: float) -> int:
    """The rank that keeps ``keep`` of the energy: of the sum of the squared singular values."""
    energy = torch.linalg.svdvals(weight.double()).square()
    kept = energy.cumsum(0) / energy.sum()
    return _rounded(1 + int((kept < keep).sum()))


def _rounded(rank: float) -> int:
    return max(1, round(rank / RANK_MULTIPLE) * RANK_MULTIPLE if rank > 2 * RANK_MULTIPLE else int(rank))


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [Factorize()]

"""Low-rank factorization: one matrix becomes the product of two thinner ones, by truncated singular values.

Changes: a linear layer into two, a convolution into one with fewer channels and a 1x1 one behind it; both are plain
layers. Needs: layers wide enough that two thin ones are cheaper. Left alone, with the reason: layers that are not
simply called (attention reads the weights of its projection), recurrent layers, tied weights. Follows: Zhang et al.,
"Accelerating Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016 (convolutions by
channels); Denton et al., "Exploiting Linear Structure Within Convolutional Networks", NIPS 2014.
"""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.data import call, primary
from autocompress.errors import CandidateFailed, one_line
from autocompress.plugin.contract import Context, Parameter, Params, Plan, Strategy, StructureStrategy
from autocompress.plugin.hooks import hookimpl
from autocompress.task import Inputs
from autocompress_plugins.reasons import because
from autocompress_plugins.weights.matrices import matrices

KEEP = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of the cost or of the energy, as the rule says
Layer = nn.Linear | nn.Conv1d | nn.Conv2d
KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d)
NARROW = 32  # a matrix with a side below it has no rank to spare
LEAST = 0.05  # of the weights in layers that can be factorized; with less, nothing gets noticeably faster
ROUND_TO = 8  # kernels work on channels in blocks
WORTH = 0.95  # of a layer's parameters and multiply-accumulates: two calls instead of one have their own cost
TOLERANCE = 1e-4  # of the largest output


@dataclass(frozen=True)
class Found:
    """names: layers that two thinner ones can stand in for. kept: the others, each with the reason."""

    names: tuple[str, ...]
    kept: dict[str, str]


class Factorize(StructureStrategy):
    name = "factorize"
    summary = "two thin layers in place of a wide one (truncated singular values)"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (Parameter("keep", KEEP, 0.5, by_strength=True), Parameter("rule", ("ratio", "energy"), "ratio"))

    def refuses(self, context: Context) -> str | None:
        found = factorizable(context.model, context.example_inputs)
        weights = matrices(context.model)
        total = sum(weight.numel() for weight in weights.values())
        share = sum(weights[f"{name}.weight"].numel() for name in found.names) / max(total, 1)
        if share >= LEAST:
            return None
        if not found.names and not found.kept:
            return "there is no linear layer and no convolution"
        return because(f"the layers that can be factorized hold {share:.0%} of the weights", found.kept)

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        keep, rule = float(params["keep"]), str(params["rule"])
        ranks = {}
        for name in factorizable(model, context.example_inputs).names:
            weight = _matrix(model.get_submodule(name))
            rank = _by_ratio(weight, keep) if rule == "ratio" else _by_energy(weight, keep)
            if rank <= WORTH * _break_even(weight):
                ranks[name] = rank
        if not ranks:
            raise CandidateFailed(f"no layer would become cheaper at keep={keep:g} by {rule}")
        return {"ranks": ranks}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        for name, rank in plan["ranks"].items():
            u, s, v = torch.linalg.svd(_matrix(model.get_submodule(name)).double(), full_matrices=False)
            root = s[:rank].sqrt()
            _swap(model, name, (root[:, None] * v[:rank]).float(), (u[:, :rank] * root).float())
        return model

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return factorizable(context.model, context.example_inputs).kept


def factorizable(model: nn.Module, inputs: Inputs) -> Found:
    """Each layer is tried: swapped for two that give the same, it must leave the model's output as it was."""
    trial = copy.deepcopy(model).eval()
    expected = _output(trial, inputs)
    holders = Counter(id(p) for _, p in trial.named_parameters(remove_duplicate=False))
    names: list[str] = []
    kept: dict[str, str] = {}
    for name, layer in list(trial.named_modules()):
        if isinstance(layer, nn.RNNBase):
            kept[name] = "a recurrent layer computes its own products"
        if not isinstance(layer, KINDS):
            continue
        reason = _unfit(layer, holders) or _in_the_way(trial, name, inputs, expected)
        if reason is None:
            names.append(name)
        else:
            kept[name or "the model"] = reason
    return Found(tuple(names), kept)


def _unfit(layer: nn.Module, holders: Counter[int]) -> str | None:
    if type(layer) not in KINDS:
        return f"a {type(layer).__name__} may do more than a layer of its kind"
    if getattr(layer, "groups", 1) != 1:
        return "a grouped convolution"
    if min(_matrix(layer).shape) < NARROW:
        return f"a side of its matrix is under {NARROW}"
    if holders[id(layer.weight)] > 1:
        return "its weight is also another layer's"
    return None


def _in_the_way(trial: nn.Module, name: str, inputs: Inputs, expected: Tensor) -> str | None:
    """Why the layer ``name`` cannot be two; ``trial`` keeps it then, and else the two that give the same."""
    if not name:
        return "it is the whole model"
    layer = trial.get_submodule(name)
    calls: list[bool] = []
    matrix = _matrix(layer)
    outputs, inputs_each = matrix.shape
    first, second = (matrix, torch.eye(outputs)) if outputs <= inputs_each else (torch.eye(inputs_each), matrix)
    two = _swap(trial, name, first, second)
    handle = two.register_forward_hook(lambda *_: calls.append(True))
    try:
        off = float((_output(trial, inputs) - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
        reason = None if off < TOLERANCE else "two layers in its place change the output"
    except Exception as error:  # whatever a model does with its layers beside calling them
        reason = f"two layers in its place break the model ({type(error).__name__}: {one_line(error, 120)})"
    handle.remove()
    if reason is None and not calls:
        reason = "the model never calls it"
    if reason is not None:
        trial.set_submodule(name, layer)
    return reason


def _swap(model: nn.Module, name: str, first: Tensor, second: Tensor) -> nn.Sequential:
    """Put two layers in the place of ``name``, with the matrices ``first`` (rank, in) and ``second`` (out, rank)."""
    layer = model.get_submodule(name)
    assert isinstance(layer, KINDS)
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # what they are initialized with is not used
        one, two = _thin(layer, len(first))
        one.weight.copy_(first.view_as(one.weight))
        two.weight.copy_(second.view_as(two.weight))
        if two.bias is not None and layer.bias is not None:
            two.bias.copy_(layer.bias)
    pair = nn.Sequential(one, two).train(layer.training)
    model.set_submodule(name, pair)
    owner = model.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.TransformerEncoderLayer):
        owner.activation_relu_or_gelu = 0  # its shortcut for inference reads the weights of its linear layers
    return pair


def _thin(layer: Layer, rank: int) -> tuple[Layer, Layer]:
    """The two layers that ``layer`` becomes."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias)
    kind = type(layer)
    how = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "padding_mode")}
    one = kind(layer.in_channels, rank, layer.kernel_size, bias=False, **how)  # type: ignore[arg-type]
    return one, kind(rank, layer.out_channels, 1, bias=bias)


def _matrix(layer: nn.Module) -> Tensor:
    """The weights as (out, everything that goes into one output)."""
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach().flatten(1)


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
    return max(1, round(rank / ROUND_TO) * ROUND_TO if rank > 2 * ROUND_TO else int(rank))


def _output(model: nn.Module, inputs: Inputs) -> Tensor:
    with torch.inference_mode():
        return primary(call(model, inputs)).float()


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [Factorize()]

"""Two thin layers in the place of a wide one, and which layers of a model they can stand in for."""

import copy
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autocompress.errors import one_line
from autocompress.kept_parts import why_kept
from autocompress.plain_model import evaluating
from autocompress.task import Inputs
from autocompress_plugins.fitting_parts import FittingParts
from autocompress_plugins.model_runs import outputs, watched

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
FACTORED_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
NARROWEST_SIDE = 32  # a matrix with a side below it has no rank to spare
SAME_TO = 1e-4  # of the largest output


def factorizable(model: nn.Module, inputs: Inputs) -> FittingParts:
    """The layers that two thinner ones can stand in for. Each is tried: swapped for two that give the same, it must
    leave the model's output as it was.
    """
    trial = evaluating(copy.deepcopy(model))
    expected = outputs(trial, inputs)
    holders = Counter(id(p) for _, p in trial.named_parameters(remove_duplicate=False))
    names: list[str] = []
    kept: dict[str, str] = {}
    for name, layer in list(trial.named_modules()):
        if isinstance(layer, nn.RNNBase):
            kept[name] = "a recurrent layer computes its own products"
        if not isinstance(layer, FACTORED_LAYERS):
            continue
        reason = _unfit(layer, holders) or _in_the_way(trial, name, inputs, expected)
        if reason is None:
            names.append(name)
        else:
            kept[name or "the model"] = reason
    return FittingParts(tuple(names), kept)


def _unfit(layer: nn.Module, holders: Counter[int]) -> str | None:
    if (reason := why_kept(layer)) is not None:
        return reason
    if type(layer) not in FACTORED_LAYERS:
        return f"a {type(layer).__name__} may do more than a layer of its kind"
    if getattr(layer, "groups", 1) != 1:
        return "a grouped convolution"
    if min(matrix_of(layer).shape) < NARROWEST_SIDE:
        return f"a side of its matrix is under {NARROWEST_SIDE}"
    if holders[id(layer.weight)] > 1:
        return "its weight is also another layer's"
    return None


def _in_the_way(trial: nn.Module, name: str, inputs: Inputs, expected: Sequence[Tensor]) -> str | None:
    """Why the layer ``name`` cannot be two; ``trial`` keeps it then, and else the two that give the same."""
    if not name:
        return "it is the whole model"
    layer = trial.get_submodule(name)
    calls: list[bool] = []
    matrix = matrix_of(layer)
    outputs_each, inputs_each = matrix.shape
    first, second = (
        (matrix, torch.eye(outputs_each)) if outputs_each <= inputs_each else (torch.eye(inputs_each), matrix)
    )
    two = put_two(trial, name, first, second)
    try:
        with watched([(name, two)], lambda *_: calls.append(True)):
            got = outputs(trial, inputs)
        off = max(_off(one, other) for one, other in zip(got, expected, strict=True))
        reason = None if off < SAME_TO else "two layers in its place change the output"
    except Exception as error:  # whatever a model does with its layers beside calling them
        reason = f"two layers in its place break the model ({type(error).__name__}: {one_line(error, 120)})"
    if reason is None and not calls:
        reason = "the model never calls it"
    if reason is not None:
        trial.set_submodule(name, layer)
    return reason


def _off(got: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest of what is expected."""
    got, expected = got.double(), expected.double()
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def put_two(model: nn.Module, name: str, first: Tensor, second: Tensor) -> nn.Sequential:
    """Put two layers in the place of ``name``, with the matrices ``first`` (rank, in) and ``second`` (out, rank)."""
    layer = model.get_submodule(name)
    assert isinstance(layer, FACTORED_LAYERS)
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


def matrix_of(layer: nn.Module) -> Tensor:
    """The weights as (out, everything that goes into one output)."""
    assert isinstance(layer.weight, Tensor)
    return layer.weight.detach().flatten(1)

"""A hand-written attention is recognised by what it computes, not by its names.

For every way of reading its linear layers as attention (fused or separate projections, number of heads, order inside a
fused projection, scale, causal or not) the outputs are compared on a real input. What no reading reproduces to 1e-4 is
left as it is.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plain_model import evaluating
from autocompress_plugins.model_runs import same_output, watched
from autocompress_plugins.shrinking.attention_layers import Dropouts, HeadAttention, Weights

ROWS_SUM_TO_ONE = 1e-4  # how far a row of attention weights may be off


def could_attend(module: nn.Module) -> bool:
    """Whether a module's parts are those of a hand-written attention: two or four linear layers, nothing else that
    has weights, in sizes that can be read as projections.
    """
    weighted = [m for m in module.modules() if m is not module and any(True for _ in m.parameters(recurse=False))]
    own = any(True for _ in module.parameters(recurse=False))
    return not own and all(isinstance(m, nn.Linear) for m in weighted) and any(True for _ in _projections(module))


def as_head_attention(module: nn.Module, inputs: Tensor, expected: Tensor) -> HeadAttention:
    """A module that maps ``inputs`` (N, T, E) to ``expected`` as attention with removable heads. Raises CandidateFailed
    when no reading of its linear layers does.
    """
    given = _given(module, inputs[:1])
    with torch.no_grad():
        for parts, out in _projections(module):
            if not all(layer in given and torch.equal(given[layer], inputs[:1]) for layer in parts) or out not in given:
                continue
            for reading in _readings(parts, out, inputs.shape[-1]):
                if not same_output(_first_head(reading, inputs[:1]), given[out][..., : reading.head_size]):
                    continue
                dropouts = _dropouts(module, inputs[:1], out)
                found = HeadAttention(reading.weights, reading.heads, reading.scale, reading.causal, dropouts)
                if same_output(evaluating(found)(inputs), expected):
                    _check_removal(module, found, inputs, out)
                    return found
    raise CandidateFailed("its linear layers do not read as multi-head self-attention of one input")


def _check_removal(module: nn.Module, found: HeadAttention, inputs: Tensor, out: nn.Linear) -> None:
    """Removing a head has to equal zeroing it in the user's own module: its columns of the output projection."""
    if found.num_heads < 2:
        return
    smaller, kept = copy.deepcopy(found), out.weight.data.clone()
    smaller.remove_heads([0])
    try:
        out.weight.data[:, found.head_columns([0])] = 0
        zeroed = module(inputs)
    finally:
        out.weight.data.copy_(kept)
    if not same_output(evaluating(smaller)(inputs), zeroed):
        raise CandidateFailed("removing a head does not equal zeroing it")


def _given(module: nn.Module, inputs: Tensor) -> dict[nn.Module, Tensor]:
    """What each linear layer of a module is given, as (N, T, features)."""
    found: dict[nn.Module, Tensor] = {}
    n, t, _ = inputs.shape

    def note(name: str, layer: nn.Module, given: tuple[Any, ...], gave: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        if given[0].numel() == n * t * layer.in_features:
            found[layer] = given[0].reshape(n, t, -1)

    with watched((("", layer) for layer in _linears(module)), note), torch.no_grad():
        module(inputs)
    return found


def _projections(module: nn.Module) -> Iterator[tuple[tuple[nn.Linear, ...], nn.Linear]]:
    """Every way to read the linear layers of a module as projections: a fused one or query, key, value; output."""
    layers = _linears(module)
    if len(layers) == 2:
        for qkv, out in permutations(layers):
            if qkv.out_features == 3 * out.in_features:
                yield (qkv,), out
    if len(layers) == 4:
        for q, k, v, out in permutations(layers):
            if q.weight.shape == k.weight.shape == v.weight.shape and out.in_features == q.out_features:
                yield (q, k, v), out


@dataclass(frozen=True)
class _Reading:
    weights: Weights
    heads: int
    head_size: int
    scale: float
    causal: bool


def _readings(parts: Sequence[nn.Linear], out: nn.Linear, width: int) -> Iterator[_Reading]:
    """Numbers of heads, orders inside the fused projection, scales, causal or not."""
    qkv, bias = torch.cat([layer.weight for layer in parts]), _fused_bias(parts)
    for heads in (h for h in range(1, out.in_features + 1) if out.in_features % h == 0):
        size = out.in_features // heads
        rows = torch.arange(len(qkv))
        orders = [rows]  # as (3, H, D)
        if len(parts) == 1 and heads > 1:
            orders.append(rows.reshape(heads, 3, -1).transpose(0, 1).reshape(-1))  # as (H, 3, D)
        for order in orders:
            weights = Weights(qkv[order], None if bias is None else bias[order], out.weight, out.bias)
            for scale in dict.fromkeys((size**-0.5, width**-0.5, 1.0)):
                for causal in (False, True):
                    yield _Reading(weights, heads, size, scale, causal)


def _fused_bias(parts: Sequence[nn.Linear]) -> Tensor | None:
    if all(layer.bias is None for layer in parts):
        return None
    return torch.cat([p.weight.new_zeros(len(p.weight)) if p.bias is None else p.bias for p in parts])


def _first_head(reading: _Reading, x: Tensor) -> Tensor:
    """What the first head gives (N, T, D): enough to dismiss nearly every wrong reading at little cost."""
    size, weights = reading.head_size, reading.weights
    rows = torch.cat([torch.arange(size) + part * reading.heads * size for part in range(3)])
    bias = None if weights.qkv_bias is None else weights.qkv_bias[rows]
    alone = Weights(weights.qkv[rows], bias, torch.eye(size), None)
    return HeadAttention(alone, 1, reading.scale, reading.causal).eval()(x)  # type: ignore[no-any-return]


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def _dropouts(module: nn.Module, inputs: Tensor, out: nn.Linear) -> Dropouts:
    """Where the dropouts of a module lie, told by what they are given in evaluation mode. One that lies elsewhere, or
    that the module has as a function, is not seen.
    """
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    layers = [(name, m) for name, m in module.named_modules() if isinstance(m, nn.Dropout) or m is out]
    with watched(layers, lambda _, layer, given, gave: calls.append((layer, given[0], gave))), torch.no_grad():
        module(inputs)
    heads, output = next((given, gave) for layer, given, gave in calls if layer is out)
    rates = {"weights": 0.0, "heads": 0.0, "output": 0.0}
    for layer, given, _ in calls:
        if isinstance(layer, nn.Dropout):
            places = {"weights": _attends(given), "heads": _same(given, heads), "output": _same(given, output)}
            rates |= {place: layer.p for place, here in places.items() if here}
    return Dropouts(**rates)


def _attends(given: Tensor) -> bool:
    """Whether a tensor is attention weights: as many places as are attended to, over which it sums to one."""
    if given.dim() < 3 or given.shape[-1] != given.shape[-2]:
        return False
    return bool((given >= 0).all() and ((given.sum(-1) - 1).abs() <= ROWS_SUM_TO_ONE).all())


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.flatten(), other.flatten())

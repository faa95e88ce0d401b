"""Attention whose heads can be removed: stands where nn.MultiheadAttention or a hand-written attention stood.

A hand-written module is recognised by what it computes, not by its names: for every way of reading its linear layers
as attention (fused or separate projections, number of heads, order inside a fused projection, scale, causal or not)
the outputs are compared on a real input. What no reading reproduces to 1e-4 is left as it is.

Vaswani et al., "Attention Is All You Need", 2017; removing heads: Michel et al., "Are Sixteen Heads Really Better than
One?", 2019.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress_plugins.pruning.opaque import Opaque

TOLERANCE = 1e-4  # of the output's range


@dataclass(frozen=True)
class Weights:
    """qkv: (3 * H * D, E), in the order query, key, value, then head. out: (E', H * D)."""

    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None


@dataclass(frozen=True)
class Dropouts:
    """Rates of dropout on the attention weights, on what the heads give, and on the output."""

    weights: float = 0.0
    heads: float = 0.0
    output: float = 0.0


NO_DROPOUT = Dropouts()


class Projection(nn.Linear):
    """A linear layer of which heads are cut; what would take it apart knows by its type that it may not."""


class HeadAttention(Opaque):
    """Scaled dot-product attention over (N, T, E), with one fused projection and heads that can be taken out."""

    def __init__(
        self, weights: Weights, heads: int, scale: float, causal: bool = False, dropouts: Dropouts = NO_DROPOUT
    ) -> None:
        super().__init__()
        self.num_heads, self.scale, self.causal = heads, scale, causal
        self.head_size = weights.qkv.shape[0] // (3 * heads)
        self.qkv = _linear(weights.qkv, weights.qkv_bias)
        self.out = _linear(weights.out, weights.out_bias)
        self.drop_weights, self.drop_heads = nn.Dropout(dropouts.weights), nn.Dropout(dropouts.heads)
        self.drop_output = nn.Dropout(dropouts.output)

    @property
    def in_channels(self) -> int:
        return self.qkv.in_features

    @property
    def out_channels(self) -> int:
        return self.out.out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.stand_in(x, self.out_channels) if self.opaque else self.attend(x, None)

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """mask: added to the attention scores, broadcast over (N, H, T, T)."""
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, self.head_size).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * self.scale) @ k.transpose(-2, -1)
        if self.causal:
            scores = scores + torch.full((t, t), -math.inf, dtype=scores.dtype, device=x.device).triu(1)
        if mask is not None:
            scores = scores + mask
        mixed = self.drop_weights(scores.softmax(-1)) @ v
        heads = mixed.transpose(1, 2).reshape(n, t, self.num_heads * self.head_size)
        return self.drop_output(self.out(self.drop_heads(heads)))  # type: ignore[no-any-return]

    def head_columns(self, heads: Sequence[int]) -> list[int]:
        """Where the heads lie in the input of the output projection."""
        return [head * self.head_size + i for head in heads for i in range(self.head_size)]

    def remove_heads(self, removed: Sequence[int]) -> None:
        kept = [head for head in range(self.num_heads) if head not in set(removed)]
        if not kept:
            raise CandidateFailed("attention keeps at least one head")
        columns = self.head_columns(kept)
        width = self.num_heads * self.head_size
        rows = [part * width + column for part in range(3) for column in columns]
        self.qkv = _linear(self.qkv.weight[rows], None if self.qkv.bias is None else self.qkv.bias[rows])
        self.out = _linear(self.out.weight[:, columns], self.out.bias)
        self.num_heads = len(kept)

    def remove_inputs(self, removed: Sequence[int]) -> None:
        kept = [i for i in range(self.in_channels) if i not in set(removed)]
        self.qkv = _linear(self.qkv.weight[:, kept], self.qkv.bias)

    def remove_outputs(self, removed: Sequence[int]) -> None:
        kept = [i for i in range(self.out_channels) if i not in set(removed)]
        self.out = _linear(self.out.weight[kept], None if self.out.bias is None else self.out.bias[kept])


class MultiheadSelfAttention(HeadAttention):
    """Called as nn.MultiheadAttention is, with one tensor as query, key and value, and no weights wanted."""

    in_proj_bias = None  # nn.TransformerEncoderLayer reads it: without it, it calls this module in every mode
    _qkv_same_embed_dim = True

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        if whole.in_proj_weight is None or whole.bias_k is not None or whole.add_zero_attn:
            raise CandidateFailed("attention with other sizes for keys, or with extra keys, is left as it is")
        weights = Weights(whole.in_proj_weight, whole.in_proj_bias, whole.out_proj.weight, whole.out_proj.bias)
        super().__init__(weights, whole.num_heads, whole.head_dim**-0.5, dropouts=Dropouts(whole.dropout))
        self.batch_first = whole.batch_first

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        if any(other is not None and other is not query for other in (key, value)):
            raise CandidateFailed("attention to another sequence is left as it is")
        if self.opaque:
            return self.stand_in(query, self.out_channels), None
        x = query if self.batch_first else query.transpose(0, 1)
        mask = None if attn_mask is None else _added(attn_mask, x)
        if mask is not None and mask.dim() == 3:
            mask = mask.reshape(x.shape[0], -1, *mask.shape[1:])
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, x)[:, None, None]
            mask = padding if mask is None else mask + padding
        y = self.attend(x, mask)
        return y if self.batch_first else y.transpose(0, 1), None


def recognised(module: nn.Module, inputs: Tensor, expected: Tensor) -> HeadAttention:
    """A module that maps ``inputs`` (N, T, E) to ``expected`` as attention with removable heads. Raises CandidateFailed
    when no reading of its linear layers does.
    """
    given = _given(module, inputs[:1])
    with torch.no_grad():
        for parts, out in _projections(module):
            if not all(layer in given and torch.equal(given[layer], inputs[:1]) for layer in parts) or out not in given:
                continue
            for reading in _readings(parts, out, inputs.shape[-1]):
                if not agrees(_first_head(reading, inputs[:1]), given[out][..., : reading.head_size]):
                    continue
                dropouts = _dropouts(module, inputs[:1], out)
                found = HeadAttention(reading.weights, reading.heads, reading.scale, reading.causal, dropouts)
                if agrees(found.eval()(inputs), expected):
                    _check_removal(module, found, inputs, out)
                    return found
    raise CandidateFailed("its linear layers do not read as multi-head self-attention of one input")


def agrees(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs agree to 1e-4 of their range."""
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= TOLERANCE * (other.max() - other.min()).clamp(min=1e-6))


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
    if not agrees(smaller.eval()(inputs), zeroed):
        raise CandidateFailed("removing a head does not equal zeroing it")


def _given(module: nn.Module, inputs: Tensor) -> dict[nn.Module, Tensor]:
    """What each linear layer of a module is given, as (N, T, features)."""
    found: dict[nn.Module, Tensor] = {}
    n, t, _ = inputs.shape

    def note(layer: nn.Linear, args: tuple[Tensor, ...]) -> None:
        if args[0].numel() == n * t * layer.in_features:
            found[layer] = args[0].reshape(n, t, -1)

    handles = [layer.register_forward_pre_hook(note) for layer in _linears(module)]
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
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
    handles = [
        layer.register_forward_hook(lambda layer, args, gave: calls.append((layer, args[0], gave)))
        for layer in module.modules()
        if isinstance(layer, nn.Dropout) or layer is out
    ]
    try:
        with torch.no_grad():
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
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
    return bool((given >= 0).all() and ((given.sum(-1) - 1).abs() <= TOLERANCE).all())


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.flatten(), other.flatten())


def _linear(weight: Tensor, bias: Tensor | None) -> Projection:
    layer = Projection(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _added(mask: Tensor, x: Tensor) -> Tensor:
    """A mask as numbers to add: True means that a place is not attended to."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill(mask, -math.inf)


def could_attend(module: nn.Module) -> bool:
    """Whether a module's parts are those of a hand-written attention: two or four linear layers, nothing else that
    has weights, in sizes that can be read as projections.
    """
    weighted = [m for m in module.modules() if m is not module and any(True for _ in m.parameters(recurse=False))]
    own = any(True for _ in module.parameters(recurse=False))
    return not own and all(isinstance(m, nn.Linear) for m in weighted) and any(True for _ in _projections(module))

"""Attention whose heads can be removed: stands where nn.MultiheadAttention or a hand-written attention stood.

Vaswani et al., "Attention Is All You Need", 2017; removing heads: Michel et al., "Are Sixteen Heads Really Better than
One?", 2019.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress_plugins.shrinking.groups import remaining
from autocompress_plugins.shrinking.opaque import Opaque


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


@dataclass(frozen=True)
class HeadLayer:
    """A linear layer of an attention, and where each head lies in it: heads[h] are its outputs (side "out", of a layer
    that reads what the attention is given), its inputs ("in", of the output projection) or both alike ("both", of a
    layer that mixes the heads) that belong to head h. What belongs to none, as keys that all heads share, stays.
    """

    layer: nn.Linear
    side: str
    heads: tuple[tuple[int, ...], ...]

    @property
    def sides(self) -> tuple[str, ...]:
        return ("out", "in") if self.side == "both" else (self.side,)


class PrunableAttention(Opaque):
    """Attention of which heads can be taken out. Where queries share keys and values, those that do are one head."""

    def head_layers(self) -> tuple[HeadLayer, ...]:
        """The layers that read, those that mix heads, and last the output projection, which may lie outside."""
        raise NotImplementedError

    def remove_heads(self, removed: Sequence[int]) -> None:
        """Take heads out, in place. Raises CandidateFailed when none would be left."""
        raise NotImplementedError

    @property
    def removable_heads(self) -> int:
        return len(self.head_layers()[0].heads)


class HeadAttention(PrunableAttention):
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

    def opaque_widths(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels

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

    def head_layers(self) -> tuple[HeadLayer, ...]:
        width = self.num_heads * self.head_size
        columns = [tuple(self.head_columns([head])) for head in range(self.num_heads)]
        rows = [tuple(part * width + column for part in range(3) for column in own) for own in columns]
        return HeadLayer(self.qkv, "out", tuple(rows)), HeadLayer(self.out, "in", tuple(columns))

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
        y = self.attend(x, added_masks(attn_mask, key_padding_mask, x))
        return y if self.batch_first else y.transpose(0, 1), None


class MultiheadCrossAttention(PrunableAttention):
    """Called as nn.MultiheadAttention is, with keys and values of any sequence and width, and no weights wanted."""

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        if whole.bias_k is not None or whole.add_zero_attn:
            raise CandidateFailed("attention with extra keys is left as it is")
        super().__init__()
        fused = whole.in_proj_weight
        weights = (whole.q_proj_weight, whole.k_proj_weight, whole.v_proj_weight) if fused is None else fused.chunk(3)
        biases = (None, None, None) if whole.in_proj_bias is None else whole.in_proj_bias.chunk(3)
        self.query, self.key, self.value = map(_linear, weights, biases)
        self.out = _linear(whole.out_proj.weight, whole.out_proj.bias)
        self.num_heads, self.head_size, self.batch_first = whole.num_heads, whole.head_dim, whole.batch_first
        self.dropout = nn.Dropout(whole.dropout)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        if self.opaque:
            width = query.shape[-1]
            return self.stand_in(query, self.out_channels, *(x for x in (key, value) if x.shape[-1] == width)), None
        given = (x if self.batch_first else x.transpose(0, 1) for x in (query, key, value))
        layers = (self.query, self.key, self.value)
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, self.head_size)).transpose(1, 2)
            for layer, x in zip(layers, given, strict=True)
        )
        scores = (q * self.head_size**-0.5) @ k.transpose(-2, -1)
        mask = added_masks(attn_mask, key_padding_mask, scores)
        mixed = self.dropout((scores if mask is None else scores + mask).softmax(-1)) @ v
        y = self.out(mixed.transpose(1, 2).flatten(2))
        return y if self.batch_first else y.transpose(0, 1), None

    def opaque_widths(self) -> tuple[int, int]:
        return self.in_channels, self.out_channels

    @property
    def in_channels(self) -> int:
        return self.query.in_features

    @property
    def out_channels(self) -> int:
        return self.out.out_features

    def head_layers(self) -> tuple[HeadLayer, ...]:
        heads = tuple(tuple(self._columns([head])) for head in range(self.num_heads))
        readers = (HeadLayer(layer, "out", heads) for layer in (self.query, self.key, self.value))
        return *readers, HeadLayer(self.out, "in", heads)

    def remove_heads(self, removed: Sequence[int]) -> None:
        kept = remaining(self.num_heads, removed)
        if not kept:
            raise CandidateFailed("attention keeps at least one head")
        columns = self._columns(kept)
        for name in ("query", "key", "value"):
            layer = getattr(self, name)
            setattr(self, name, _linear(layer.weight[columns], None if layer.bias is None else layer.bias[columns]))
        self.out = _linear(self.out.weight[:, columns], self.out.bias)
        self.num_heads = len(kept)

    def remove_inputs(self, removed: Sequence[int]) -> None:
        layers = {name: getattr(self, name) for name in ("query", "key", "value")}
        if {layer.in_features for layer in layers.values()} != {self.in_channels}:
            raise CandidateFailed("attention to a sequence of another width keeps that of its queries")
        kept = remaining(self.in_channels, removed)
        for name, layer in layers.items():
            setattr(self, name, _linear(layer.weight[:, kept], layer.bias))

    def remove_outputs(self, removed: Sequence[int]) -> None:
        kept = remaining(self.out_channels, removed)
        self.out = _linear(self.out.weight[kept], None if self.out.bias is None else self.out.bias[kept])

    def _columns(self, heads: Sequence[int]) -> list[int]:
        return [head * self.head_size + i for head in heads for i in range(self.head_size)]


def added_masks(attn_mask: Tensor | None, key_padding_mask: Tensor | None, x: Tensor) -> Tensor | None:
    """Both masks of nn.MultiheadAttention as numbers to add to the scores, broadcast over (N, H, T, S). x: (N, ...)."""
    mask = None if attn_mask is None else _added(attn_mask, x)
    if mask is not None and mask.dim() == 3:
        mask = mask.reshape(x.shape[0], -1, *mask.shape[1:])
    if key_padding_mask is not None:
        padding = _added(key_padding_mask, x)[:, None, None]
        mask = padding if mask is None else mask + padding
    return mask


def _linear(weight: Tensor, bias: Tensor | None) -> Projection:
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # what it is initialized with is not used
        layer = Projection(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def _added(mask: Tensor, x: Tensor) -> Tensor:
    """A mask as numbers to add: True means that a place is not attended to."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill(mask, -math.inf)

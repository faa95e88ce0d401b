"""``F.multi_head_attention_forward`` taken apart into the operations that it is made of, so that its projections can be
seen, and it computes with fewer heads than it was written for.
"""

import inspect
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from autocompress_plugins.shrinking.attention_layers import added_masks

SIGNATURE = inspect.signature(F.multi_head_attention_forward)
NOT_IN_PARTS = ("bias_k", "bias_v", "static_k", "static_v")  # arguments of what is left in one piece


def arguments_of_parts(args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call by name; None of one that is left in one piece: with keys of its own, or one weight for
    several sequences.
    """
    bound = SIGNATURE.bind(*args, **named)
    bound.apply_defaults()
    given = bound.arguments
    alike = given["query"] is given["key"] is given["value"]
    in_pieces = (given["use_separate_proj_weight"] or alike) and not given["add_zero_attn"]
    return given if in_pieces and all(given[name] is None for name in NOT_IN_PARTS) else None


def attention_in_parts(given: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """What ``F.multi_head_attention_forward`` gives for these arguments."""
    batched = given["query"].dim() == 3
    sequences = [given[name] if batched else given[name][:, None] for name in ("query", "key", "value")]
    apart = (given["num_heads"], -1)
    q, k, v = (x.unflatten(-1, apart).permute(1, 2, 0, 3) for x in _projected(given, sequences))  # (N, H, T, D)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    padding = given["key_padding_mask"]
    mask = added_masks(given["attn_mask"], padding if padding is None or batched else padding[None], scores)
    weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), given["dropout_p"], given["training"])
    heads = (weights @ v).permute(2, 0, 1, 3).flatten(2)
    y = F.linear(heads, given["out_proj_weight"], given["out_proj_bias"])
    if given["average_attn_weights"]:
        weights = weights.mean(1)
    if not batched:
        y, weights = y[:, 0], weights[0]
    return y, weights if given["need_weights"] else None


def _projected(given: dict[str, Any], sequences: list[Tensor]) -> tuple[Any, ...]:
    bias = given["in_proj_bias"]
    if not given["use_separate_proj_weight"]:
        return F.linear(sequences[0], given["in_proj_weight"], bias).chunk(3, -1)
    weights = (given[f"{part}_proj_weight"] for part in "qkv")
    biases = (None, None, None) if bias is None else bias.chunk(3)
    return tuple(F.linear(x, weight, own) for x, weight, own in zip(sequences, weights, biases, strict=True))

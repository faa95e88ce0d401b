"""Attention whose heads can be removed: it computes what it stands for, and removing a head is zeroing it."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.errors import CandidateFailed
from autocompress_plugins.shrinking.attention_layers import (
    HeadAttention,
    MultiheadCrossAttention,
    MultiheadSelfAttention,
    Weights,
)

N, T, E, H = 2, 6, 24, 4


def attention() -> HeadAttention:
    weights = Weights(torch.randn(3 * E, E), torch.randn(3 * E), torch.randn(E, E), torch.randn(E))
    return HeadAttention(weights, H, (E // H) ** -0.5).eval()


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masks", ["none", "causal", "float", "padding", "both", "by head"])
def test_multihead_attention_with_its_masks(batch_first: bool, bias: bool, masks: str):
    whole = nn.MultiheadAttention(E, H, bias=bias, batch_first=batch_first).eval()
    x = torch.randn(N, T, E) if batch_first else torch.randn(T, N, E)
    causal, padding = torch.ones(T, T).triu(1).bool(), torch.arange(T) >= torch.tensor([T, T - 2])[:, None]
    given: dict[str, Any] = {
        "none": {},
        "causal": {"attn_mask": causal, "is_causal": True},
        "float": {"attn_mask": torch.randn(T, T)},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": causal, "key_padding_mask": padding},
        "by head": {"attn_mask": torch.randn(N * H, T, T)},
    }[masks]
    got, weights = MultiheadSelfAttention(whole).eval()(x, x, x, need_weights=False, **given)
    assert weights is None
    torch.testing.assert_close(got, whole(x, x, x, need_weights=False, **given)[0], atol=1e-5, rtol=0)


def test_removing_heads_of_multihead_attention_is_zeroing_their_columns():
    whole = nn.MultiheadAttention(E, H, batch_first=True).eval()
    smaller, x = MultiheadSelfAttention(copy.deepcopy(whole)).eval(), torch.randn(N, T, E)
    smaller.remove_heads([1, 3])
    with torch.no_grad():
        for head in (1, 3):
            whole.out_proj.weight[:, head * (E // H) : (head + 1) * (E // H)] = 0
    torch.testing.assert_close(smaller(x, x, x)[0], whole(x, x, x)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "options", [{"kdim": 8, "vdim": 8}, {"add_bias_kv": True}, {"add_zero_attn": True}], ids=lambda o: next(iter(o))
)
def test_other_multihead_attention_is_refused(options: dict[str, Any]):
    with pytest.raises(CandidateFailed, match="left as it is"):
        MultiheadSelfAttention(nn.MultiheadAttention(E, H, **options))


def test_attention_to_another_sequence_is_refused():
    module, x = MultiheadSelfAttention(nn.MultiheadAttention(E, H, batch_first=True)), torch.randn(N, T, E)
    with pytest.raises(CandidateFailed, match="another sequence"):
        module(x, torch.randn(N, T, E), x)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", [{}, {"kdim": 8, "vdim": 10}, {"bias": False}])
def test_multihead_attention_to_another_sequence_loses_heads(batch_first: bool, options: dict[str, Any]):
    whole = nn.MultiheadAttention(E, H, batch_first=batch_first, **options).eval()
    x, keys, values = (torch.randn(N, t, w) for t, w in ((T, E), (5, whole.kdim), (5, whole.vdim)))
    if not batch_first:
        x, keys, values = (y.transpose(0, 1) for y in (x, keys, values))
    masks = {"attn_mask": torch.randn(T, 5), "key_padding_mask": torch.arange(5) >= torch.tensor([5, 3])[:, None]}
    smaller = MultiheadCrossAttention(whole).eval()
    expected = whole(x, keys, values, need_weights=False, **masks)[0]
    torch.testing.assert_close(smaller(x, keys, values, need_weights=False, **masks)[0], expected, atol=1e-5, rtol=0)
    smaller.remove_heads([0, 2])
    with torch.no_grad():
        for head in (0, 2):
            whole.out_proj.weight[:, head * (E // H) : (head + 1) * (E // H)] = 0
    torch.testing.assert_close(smaller(x, keys, values)[0], whole(x, keys, values)[0], atol=1e-5, rtol=0)
    assert [len(layer.weight) for layer in (smaller.query, smaller.key, smaller.value)] == [E // 2] * 3


def test_removing_inputs_and_outputs():
    whole = attention()
    smaller, x = copy.deepcopy(whole), torch.randn(N, T, E)
    smaller.remove_inputs([0, 5])
    smaller.remove_outputs([3])
    x[..., [0, 5]] = 0
    kept = [i for i in range(E) if i not in (0, 5)]
    expected = whole(x)[..., [i for i in range(E) if i != 3]]
    torch.testing.assert_close(smaller(x[..., kept]), expected, atol=1e-4, rtol=1e-4)


def test_one_head_stays():
    with pytest.raises(CandidateFailed, match="at least one head"):
        attention().remove_heads(range(H))

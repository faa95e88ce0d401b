"""torch's function for attention, taken apart: it gives what the function gives, or is left in one piece."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autocompress_plugins.model_runs import same_output
from autocompress_plugins.shrinking.function_attention import arguments_of_parts, attention_in_parts

N, T, S, E, H = 2, 5, 7, 8, 2


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def given(**others: Any) -> dict[str, Any]:
    """A call with a weight for each of the three projections."""
    projections = {f"{part}_proj_weight": drawn(E, E) for part in "qkv"}
    sequences = {"query": drawn(T, N, E), "key": drawn(S, N, E), "value": drawn(S, N, E)}
    output = {"out_proj_weight": drawn(3, E), "out_proj_bias": drawn(3)}
    nothing = dict.fromkeys(("in_proj_weight", "bias_k", "bias_v"))
    sizes = {"embed_dim_to_check": E, "num_heads": H, "add_zero_attn": False, "dropout_p": 0.0}
    known = {**sequences, **sizes, **nothing, **projections, **output, "in_proj_bias": drawn(3 * E)}
    return {**known, "use_separate_proj_weight": True, **others}


ITSELF = dict.fromkeys(("query", "key", "value"), drawn(T, N, E))
PADDING = torch.arange(S) >= torch.tensor([[S], [4]])
CALLS: dict[str, dict[str, Any]] = {
    "another sequence": {},
    "no bias": {"in_proj_bias": None},
    "fused": {**ITSELF, "use_separate_proj_weight": False, "in_proj_weight": drawn(3 * E, E)},
    "padded": {"key_padding_mask": PADDING},
    "masked": {"attn_mask": torch.ones(T, S).triu(1).bool()},
    "masked by numbers for each head": {"attn_mask": drawn(N * H, T, S)},
    "each head's weights": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
    "one example": {"query": drawn(T, E), "key": drawn(S, E), "value": drawn(S, E), "key_padding_mask": PADDING[1]},
}


@pytest.mark.parametrize("name", CALLS)
def test_its_parts_give_what_it_gives(name: str):
    call = given(**CALLS[name])
    expected, weights = F.multi_head_attention_forward(**call)
    known = arguments_of_parts((), call)
    assert known is not None
    y, looked = attention_in_parts(known)
    assert same_output(y, expected)
    assert (looked is None) == (weights is None)
    assert weights is None or (looked is not None and same_output(looked, weights))


@pytest.mark.parametrize(
    "others",
    [
        {"add_zero_attn": True},
        {"bias_k": drawn(1, 1, E), "bias_v": drawn(1, 1, E)},
        {"use_separate_proj_weight": False, "in_proj_weight": drawn(3 * E, E)},
    ],
    ids=["a place of zeros", "a place of its own", "one weight for two sequences"],
)
def test_what_has_more_parts_is_left_in_one_piece(others: dict[str, Any]):
    assert arguments_of_parts((), given(**others)) is None

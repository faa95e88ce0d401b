"""Removing heads and narrowing MLPs: as many as asked, the least important ones, the width between layers as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.plugin.contract import Context
from autocompress.task import Inputs
from autocompress_plugins.model_runs import output
from autocompress_plugins.pruning.prune_attention import PruneAttention

MakeContext = Callable[..., Context]


def planned(context: Context, **chosen: Any) -> dict[str, Any]:
    params = {p.name: p.default for p in PruneAttention().parameters(context)} | chosen
    return dict(PruneAttention().plan(context.task.copy_of_model(), params, context))


def pruned(context: Context, **chosen: Any) -> nn.Module:
    return PruneAttention().apply(context.task.copy_of_model(), planned(context, **chosen), context).eval()


def shape(model: nn.Module) -> list[tuple[int, int]]:
    """Heads and hidden width of each block."""
    heads = [getattr(block.attention, "num_heads", 4) for block in model.blocks]
    return [(own, block.mlp[0].out_features) for own, block in zip(heads, model.blocks, strict=True)]


@pytest.mark.parametrize(
    ("heads", "mlp", "expected"),
    [(0.75, 0.0, (1, 64)), (0.0, 0.875, (4, 8))],
)
def test_heads_and_widths_are_as_asked(heads: float, mlp: float, expected: tuple[int, int], transformer: Context):
    model = pruned(transformer, heads=heads, mlp=mlp)
    assert shape(model) == [expected] * 2
    for block in model.blocks:
        assert block.attention.qkv.weight.shape == (3 * expected[0] * 8, 32)
        assert block.attention.out.weight.shape == (32, expected[0] * 8)
        assert block.mlp[2].weight.shape == (32, expected[1])


def test_every_attention_keeps_a_head_and_widths_are_multiples_of_eight(transformer: Context):
    model = pruned(transformer, allocation="global", heads=0.5)
    (heads, width), (other_heads, other_width) = shape(model)
    assert (heads >= 1, other_heads >= 1, heads + other_heads < 8) == (True, True, True)
    assert (width % 8, other_width % 8, width + other_width < 128) == (0, 0, True)


def test_it_is_the_users_model_with_the_heads_unread(transformer: Context):
    plan, original = planned(transformer, heads=0.5), transformer.task.copy_of_model()
    smaller = PruneAttention().apply(transformer.task.copy_of_model(), plan, transformer).eval()
    with torch.no_grad():
        for number, block in enumerate(original.blocks):
            for head in plan["remove"][f"blocks.{number}.attention"]:
                block.attention.out.weight[:, 8 * head : 8 * head + 8] = 0
            block.mlp[2].weight[:, plan["remove"][f"blocks.{number}.mlp.0"]] = 0
        x = transformer.train.take(torch.arange(8)).inputs
        torch.testing.assert_close(smaller(x), original(x), atol=1e-4, rtol=1e-3)


class Encoder(nn.Module):
    """With a padding mask made of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(tokens), src_key_padding_mask=tokens == 0)[:, 0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_file_of_a_torch_encoder_with_padding(
    make_context: MakeContext, from_file: Callable[[nn.Module, Inputs], Tensor]
):
    tokens = torch.randint(1, 9, (16, 7))
    tokens[::2, 5:] = 0
    context = make_context(Encoder(), tokens)
    model = pruned(context, heads=0.5)
    assert [layer.self_attn.num_heads for layer in model.encoder.layers] == [2, 2]
    assert [layer.linear1.out_features for layer in model.encoder.layers] == [16, 16]
    with torch.no_grad():  # plainly called: torch's shortcut for inference would read the weights of its own attention
        expected = model(context.example_inputs)
    torch.testing.assert_close(output(model, context.example_inputs), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(from_file(model, context.example_inputs), expected, atol=1e-4, rtol=1e-3)


# -- refusals ----------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Attention without a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x).relu(), self.k(x).relu(), self.v(x)
        return self.o(q @ (k.transpose(-2, -1) @ v)) / x.shape[1]


class ExtraKeys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.Parameter(torch.randn(1, 4, 8))
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True, add_zero_attn=True)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.memory.expand(len(x), -1, -1)
        return self.attend(x, memory, memory)[0]


@pytest.mark.parametrize(
    ("make", "layer", "reason"),
    [(Linear, "0", "do not read as multi-head self-attention"), (ExtraKeys, "0.attend", "attention with extra keys")],
)
def test_refused_with_the_layer_and_the_reason(make: Any, layer: str, reason: str, make_context: MakeContext):
    model = nn.Sequential(make(), nn.Flatten(), nn.Linear(40, 3))
    context = make_context(model, torch.randn(8, 5, 8))
    text = PruneAttention().refuses(context)
    assert text is not None
    assert text.startswith(f"no attention was found whose heads can be removed ({layer}: ")
    assert reason in text


def test_layers_that_only_look_like_attention_are_no_reason(make_context: MakeContext):
    """A plain network of four equal layers is given no sequence."""
    mlp = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(8, 8), nn.ReLU())))
    context = make_context(nn.Sequential(mlp, nn.Linear(8, 3)), torch.randn(8, 8))
    assert PruneAttention().refuses(context) == "no attention was found whose heads can be removed"
    assert PruneAttention().left_alone(context) == {}


def test_attention_that_stays_is_named_with_the_reason_though_another_can_shrink(make_context: MakeContext):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    context = make_context(nn.Sequential(layer, Linear(), nn.Flatten(), nn.Linear(40, 3)), torch.randn(8, 5, 8))
    assert PruneAttention().refuses(context) is None
    left = PruneAttention().left_alone(context)
    assert left["1"] == "its linear layers do not read as multi-head self-attention of one input"
    assert not any(name.startswith("0") for name in left)

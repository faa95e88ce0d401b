"""Groups of attention and under norms: heads and MLPs are told apart, and a norm keeps what belongs to what stays."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.task import Inputs
from autocompress.testing.tasks import TransformerBlock
from autocompress_plugins.model_runs import output
from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.groups import CHANNELS, HEADS, MLP, FoundGroups, Group
from autocompress_plugins.shrinking.removal import remove_units

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(1))
VECTORS = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def groups_of(model: nn.Module, inputs: Inputs) -> FoundGroups:
    return ChannelGraph().find_groups(model, inputs)[1]


def found(groups: FoundGroups) -> dict[str, tuple[str, int]]:
    return {group.root: (group.kind, group.size) for group in groups.groups}


def some(group: Group) -> list[int]:
    """Two of five units, from each block."""
    run = group.size // group.blocks
    return [block * run + unit for block in range(group.blocks) for unit in range(run) if unit % 5 in (1, 2)]


class Encoder(nn.Module):
    """nn.TransformerEncoder over words, some of them padding."""

    def __init__(self, padding: bool, **options: Any) -> None:
        super().__init__()
        self.embed, self.padding = nn.Embedding(20, 16), padding
        layer = nn.TransformerEncoderLayer(16, 4, 30, batch_first=True, **options)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(16, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = tokens < 3 if self.padding else None
        return self.head(self.encoder(self.embed(tokens), src_key_padding_mask=mask).mean(1))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize(("padding", "norm_first"), [(False, True), (True, False)], ids=["norm first", "padded"])
def test_a_transformer_encoder(padding: bool, norm_first: bool):
    model = Encoder(padding, norm_first=norm_first).eval()
    with torch.no_grad():
        model.embed.weight[TOKENS[0, 0]] = 1.0
    prunable, groups = ChannelGraph().find_groups(model, TOKENS)
    layers = [f"encoder.layers.{i}" for i in range(2)]
    expected = {f"{name}.self_attn": (HEADS, 4) for name in layers} | {f"{name}.linear1": (MLP, 30) for name in layers}
    assert found(groups) == expected | {"embed": (CHANNELS, 16)}
    torch.testing.assert_close(output(prunable, TOKENS), output(model, TOKENS), atol=1e-5, rtol=1e-4)
    smaller = remove_units(prunable, TOKENS, {f"{layers[0]}.self_attn": [2], f"{layers[1]}.linear1": [0, 7]})
    with torch.no_grad():
        model.encoder.layers[0].self_attn.out_proj.weight[:, 8:12] = 0
        model.encoder.layers[1].linear2.weight[:, [0, 7]] = 0
    torch.testing.assert_close(output(smaller, TOKENS), output(model, TOKENS), atol=1e-5, rtol=1e-4)


class Attends(nn.Module):
    """Two layers of attention; the shapes in its code are those of the whole width."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 16), nn.Linear(16, 4)
        self.blocks = nn.Sequential(TransformerBlock(16, 4), TransformerBlock(16, 4))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(tokens)).mean(1))


def test_hand_written_attention():
    assert found(groups_of(Attends(), TOKENS)) == {
        "embed": (CHANNELS, 16),
        **{f"blocks.{i}.attention": (HEADS, 4) for i in range(2)},
        **{f"blocks.{i}.mlp.0": (MLP, 32) for i in range(2)},
    }


class TokenAndMean(nn.Module):
    """As DINOv2: the head reads a class token and the mean of the others side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.token = nn.Linear(8, 16), nn.Parameter(torch.randn(1, 1, 16))
        self.block, self.head = TransformerBlock(16, 4), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(torch.cat([self.token.expand(len(x), -1, -1), self.stem(x)], 1))
        return self.head(torch.cat([x[:, 0], x[:, 1:].mean(1)], 1))


def test_a_class_token_before_a_concatenation_of_channels():
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    whole, groups = ChannelGraph().find_groups(TokenAndMean().eval(), x)  # each by itself was compared with zeroing
    assert found(groups)["stem"] == (CHANNELS, 16)
    assert remove_units(whole, x, {"stem": [0, 3]}).head.in_features == 28


def test_a_layer_norm_keeps_the_weights_of_the_channels_that_stay():
    """In their order: the rest of the layers keeps it."""
    model = nn.Sequential(nn.Linear(8, 100), nn.LayerNorm(100), nn.ReLU(), nn.Linear(100, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(100.0))
    smaller, groups = ChannelGraph().find_groups(model, VECTORS)
    assert found(groups)["0"] == (CHANNELS, 100)
    gone = [unit for unit in range(100) if unit not in (3, 40, 64, 99)]
    remove_units(smaller, VECTORS, {"0": gone})
    assert smaller[1].weight.tolist() == [3.0, 40.0, 64.0, 99.0]
    wanted = model[3].weight[:, [3, 40, 64, 99]]
    assert torch.equal(smaller[3].weight, wanted)


class Normed(nn.Module):
    def __init__(self, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv, self.norm, self.last, self.head = nn.Conv2d(3, 16, 3), norm(), nn.Conv2d(16, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.norm(self.conv(x)).relu()).mean((2, 3)))


class ChannelsLast(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("norm", "blocks"),
    [
        (lambda: nn.GroupNorm(4, 16), 4),
        (lambda: nn.GroupNorm(1, 16), 1),
        (lambda: ChannelsLast(nn.LayerNorm(16)), 1),
        (lambda: ChannelsLast(nn.RMSNorm(16)), 1),
        (lambda: nn.InstanceNorm2d(16, affine=True), 1),
    ],
    ids=["group norm", "one group", "layer norm", "rms norm", "instance norm"],
)
def test_channels_under_a_norm(norm: Callable[[], nn.Module], blocks: int):
    model = Normed(norm)
    for parameter in model.norm.parameters():
        nn.init.normal_(parameter)
    smaller, groups = ChannelGraph().find_groups(model, IMAGES)
    assert {group.root: group.blocks for group in groups.groups} == {"conv": blocks, "last": 1}
    group = next(group for group in groups.groups if group.root == "conv")
    remove_units(smaller, IMAGES, {"conv": some(group)})
    kept = [unit for unit in range(16) if unit not in some(group)]
    for name, own in smaller.norm.named_parameters():
        assert torch.equal(own, model.norm.get_parameter(name)[kept])
    assert torch.equal(smaller.last.weight, model.last.weight[:, kept])
    assert output(smaller, IMAGES).isfinite().all()


class Translator(nn.Module):
    """torch's encoder and decoder from words to words. whole: as nn.Transformer, which insists on their width."""

    def __init__(self, whole: bool, batch_first: bool = True) -> None:
        super().__init__()
        self.source, self.target, self.batch_first = nn.Embedding(20, 16), nn.Embedding(20, 16), batch_first
        body = nn.Transformer(16, 4, 1, 2, 30, batch_first=batch_first)
        self.body, self.encoder, self.decoder = (body, None, None) if whole else (None, body.encoder, body.decoder)
        self.head = nn.Linear(16, 20)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        causal, padding = nn.Transformer.generate_square_subsequent_mask(target.shape[1]), source < 3
        read, written = self.source(source), self.target(target)
        if not self.batch_first:
            read, written = read.transpose(0, 1), written.transpose(0, 1)
        if self.body is not None:
            return self.head(self.body(read, written, tgt_mask=causal, memory_key_padding_mask=padding))
        memory = self.encoder(read)
        return self.head(self.decoder(written, memory, tgt_mask=causal, memory_key_padding_mask=padding))


SENTENCES = TOKENS, TOKENS[:, :5]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("batch_first", [True, False])
def test_every_attention_of_a_transformer_loses_heads(batch_first: bool):
    model = Translator(True, batch_first).eval()
    prunable, groups = ChannelGraph().find_groups(model, SENTENCES, frozenset({HEADS}))
    decoder = {f"body.decoder.layers.{i}.{kind}" for i in range(2) for kind in ("self_attn", "multihead_attn")}
    assert {group.root for group in groups.groups} == decoder | {"body.encoder.layers.0.self_attn"}
    torch.testing.assert_close(output(prunable, SENTENCES), output(model, SENTENCES), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_the_streams_that_an_attention_reads_lose_the_same_channels():
    model = Translator(False).eval()
    prunable, groups = ChannelGraph().find_groups(model, SENTENCES)
    (stream,) = [group for group in groups.groups if group.kind == CHANNELS]
    assert stream.size == 16
    smaller = remove_units(prunable, SENTENCES, {stream.root: [0, 7]})
    assert smaller.source.embedding_dim == smaller.target.embedding_dim == 14
    assert output(smaller, SENTENCES).shape == output(model, SENTENCES).shape

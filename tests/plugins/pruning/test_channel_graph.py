"""Which groups are found, in networks of many kinds: that they are right, and that the rest is left with a reason.

``READS`` says for some networks, by hand, which weights read a group's units: removing some of the units has to give
what the user's own network gives with those weights set to zero.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.data import call, primary
from autocompress.errors import CandidateFailed
from autocompress.task import Inputs
from autocompress.testing import tasks
from autocompress_plugins.pruning.channel_graph import ChannelGraph
from autocompress_plugins.pruning.groups import CHANNELS, HEADS, MLP, RECURRENT, FoundGroups, Group
from autocompress_plugins.pruning.removal import remove

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
SEQUENCES = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(1))
VECTORS = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))


def surveyed(model: nn.Module, inputs: Inputs) -> FoundGroups:
    return ChannelGraph().find_groups(model, inputs)[1]


def found(survey: FoundGroups) -> dict[str, tuple[str, int]]:
    return {group.root: (group.kind, group.size) for group in survey.groups}


def left(survey: FoundGroups) -> dict[str, str]:
    return {part.module: part.reason for part in survey.left}


def output(model: nn.Module, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return primary(call(model.eval(), inputs))


def some(group: Group) -> list[int]:
    """Two of five units, from each block."""
    run = group.size // group.blocks
    return [block * run + unit for block in range(group.blocks) for unit in range(run) if unit % 5 in (1, 2)]


class Convolution(nn.Sequential):
    """With a batch norm that has seen data."""

    def __init__(self, inputs: int, outputs: int, **options: Any) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, **options), nn.BatchNorm2d(outputs))
        self[1].running_mean.normal_()
        self[1].running_var.uniform_(0.5, 2.0)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 10)
        self.inner, self.outer = Convolution(10, 15), Convolution(15, 10)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.head((x + self.outer(self.inner(x).relu())).relu().mean((2, 3)))


class Mobile(nn.Module):
    """Depthwise convolution, squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depth = Convolution(3, 20), Convolution(20, 20, groups=20)
        self.squeeze, self.excite = nn.Conv2d(20, 5, 1), nn.Conv2d(5, 20, 1)
        self.project, self.head = Convolution(20, 10), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depth(self.expand(x).relu()).relu()
        x = x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(self.project(x).mean((2, 3)))


class Flattened(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 10, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(10, 15, 3), nn.Flatten(), nn.Linear(375, 20),
            nn.ReLU(), nn.Linear(20, 4),
        )  # fmt: skip


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(20, 10), nn.LSTM(10, 15, batch_first=True), nn.Linear(15, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(tokens))[0].mean(1))


class Deep(nn.Module):
    """A bidirectional GRU of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(6, 10, 2, batch_first=True, bidirectional=True), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].amax(1))


class LastStates(nn.Module):
    """The usual classifier: the last hidden states of both directions side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(6, 10, 2, batch_first=True, bidirectional=True), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.rnn(x)
        return self.head(torch.cat([h[-2], h[-1]], 1))


class Unet(nn.Module):
    """A concatenation of what was kept and what a transposed convolution made."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(10, 15, 3, stride=2, padding=1)
        self.up, self.out = nn.ConvTranspose2d(15, 5, 2, 2), nn.Conv2d(15, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.down1(x).relu()
        return self.out(torch.cat([self.up(self.down2(kept).relu()), kept], 1))


class Grouped(nn.Module):
    """A convolution in four groups, as in ResNeXt, and a transposed one in two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 20, 1), Convolution(20, 40, groups=4)
        self.transposed, self.last = nn.ConvTranspose2d(40, 20, 3, groups=2), nn.Conv2d(20, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.transposed(self.grouped(self.first(x).relu()).relu()).relu()).mean((2, 3))


class Tied(nn.Module):
    """The output layer holds the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.out = nn.Embedding(20, 10), nn.Linear(10, 10), nn.Linear(10, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.out(x + self.inner(x).tanh()).mean(1)


class Twice(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Conv2d(3, 10, 3), nn.Conv2d(10, 10, 3, padding=1), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.again(self.first(x).relu()).relu()).mean((2, 3)))


class Series(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv1d(9, 10, 3), nn.PReLU(10), nn.Conv1d(10, 15, 2), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
            nn.Linear(15, 4),
        )  # fmt: skip


class Fusion(nn.Module):
    """Two inputs by name, an output with more than the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.see, self.read, self.head = nn.Conv2d(3, 10, 3), nn.Embedding(20, 5), nn.Linear(15, 4)

    def forward(self, image: Tensor, words: Tensor) -> dict[str, Tensor]:
        both = torch.cat([self.see(image).relu().mean((2, 3)), self.read(words).mean(1)], 1)
        return {"embedding": both, "logits": self.head(both)}


class FusionByPlace(Fusion):
    def forward(self, image: Tensor, words: Tensor) -> Any:  # type: ignore[override]
        both = super().forward(image, words)
        return both["logits"], both["embedding"]


Case = tuple[Callable[[], nn.Module], Inputs, dict[str, tuple[str, int]]]
FOUND: dict[str, Case] = {
    "residual": (Residual, IMAGES, {"stem.0": (CHANNELS, 10), "inner.0": (CHANNELS, 15)}),
    "depthwise, squeeze and excitation": (
        Mobile,
        IMAGES,
        {"expand.0": (CHANNELS, 20), "squeeze": (CHANNELS, 5), "project.0": (CHANNELS, 10)},
    ),
    "flattened": (Flattened, IMAGES, {"0": (CHANNELS, 10), "3": (CHANNELS, 15), "5": (CHANNELS, 20)}),
    "embedding and lstm": (Words, TOKENS, {"embed": (CHANNELS, 10), "rnn.layers.0": (RECURRENT, 15)}),
    "deep gru": (Deep, SEQUENCES, {"rnn.layers.0": (RECURRENT, 20), "rnn.layers.1": (RECURRENT, 20)}),
    "last states": (LastStates, SEQUENCES, {"rnn.layers.0": (RECURRENT, 20), "rnn.layers.1": (RECURRENT, 20)}),
    "u-net": (Unet, IMAGES, {"down1": (CHANNELS, 10), "down2": (CHANNELS, 15), "up": (CHANNELS, 5)}),
    "grouped": (
        Grouped,
        IMAGES,
        {"first": (CHANNELS, 20), "grouped.0": (CHANNELS, 40), "transposed": (CHANNELS, 20)},
    ),
    "tied": (Tied, TOKENS, {"embed": (CHANNELS, 10)}),
    "called twice": (Twice, IMAGES, {"first": (CHANNELS, 10)}),
    "series": (Series, SEQUENCES, {"0": (CHANNELS, 10), "2": (CHANNELS, 15)}),
    "inputs by name": (Fusion, {"image": IMAGES, "words": TOKENS}, {"see": (CHANNELS, 10), "read": (CHANNELS, 5)}),
    "inputs by place": (FusionByPlace, (IMAGES, TOKENS), {"see": (CHANNELS, 10), "read": (CHANNELS, 5)}),
}

# root -> weight -> where along its second dimension the units are read; a function where it is not at their own place
Reads = Mapping[str, Mapping[str, Callable[[int], list[int]] | None]]
READS: dict[str, Reads] = {
    "residual": {
        "stem.0": {"inner.0.weight": None, "head.weight": None},
        "inner.0": {"outer.0.weight": None},
    },
    "depthwise, squeeze and excitation": {
        "expand.0": {"squeeze.weight": None, "project.0.weight": None},
        "squeeze": {"excite.weight": None},
    },
    "flattened": {
        "0": {"3.weight": None},
        "3": {"5.weight": lambda unit: list(range(25 * unit, 25 * unit + 25))},
        "5": {"7.weight": None},
    },
    "embedding and lstm": {
        "embed": {"rnn.weight_ih_l0": None},
        "rnn.layers.0": {"rnn.weight_hh_l0": None, "head.weight": None},
    },
    "deep gru": {
        "rnn.layers.0": {
            "rnn.weight_hh_l0": lambda unit: [unit] if unit < 10 else [],
            "rnn.weight_hh_l0_reverse": lambda unit: [unit - 10] if unit >= 10 else [],
            "rnn.weight_ih_l1": None,
            "rnn.weight_ih_l1_reverse": None,
        },
    },
    "last states": {
        "rnn.layers.1": {
            "rnn.weight_hh_l1": lambda unit: [unit] if unit < 10 else [],
            "rnn.weight_hh_l1_reverse": lambda unit: [unit - 10] if unit >= 10 else [],
            "head.weight": None,
        },
    },
    "u-net": {"down1": {"down2.weight": None, "out.weight": lambda unit: [unit + 5]}, "up": {"out.weight": None}},
    "grouped": {"transposed": {"last.weight": None}},
    "tied": {"embed": {"inner.weight": None, "out.weight": None}},
    "called twice": {"first": {"again.weight": None, "head.weight": None}},
    "series": {"0": {"2.weight": None}, "2": {"5.weight": None}},
    "inputs by name": {"see": {"head.weight": None}, "read": {"head.weight": lambda unit: [unit + 10]}},
    "inputs by place": {"see": {"head.weight": None}, "read": {"head.weight": lambda unit: [unit + 10]}},
}


@pytest.mark.parametrize("name", FOUND)
def test_the_groups_of(name: str):
    make, inputs, expected = FOUND[name]
    model = make()
    before = copy.deepcopy(model.state_dict())
    survey = surveyed(model, inputs)
    assert found(survey) == expected
    assert all(reason == "its units are the model's output" for reason in left(survey).values())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", READS)
def test_removing_units_is_zeroing_what_reads_them(name: str):
    make, inputs, _ = FOUND[name]
    model = make().eval()
    prunable, survey = ChannelGraph().find_groups(model, inputs)
    for group in survey.groups:
        if group.root not in READS[name]:
            continue
        zeroed, units = copy.deepcopy(model), some(group)
        with torch.no_grad():
            for weight, places in READS[name][group.root].items():
                for unit in units:
                    zeroed.get_parameter(weight)[:, [unit] if places is None else places(unit)] = 0
        smaller = remove(copy.deepcopy(prunable), inputs, {group.root: units})
        assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
        torch.testing.assert_close(output(smaller, inputs), output(zeroed, inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FOUND)
def test_all_groups_together_can_go(name: str):
    make, inputs, _ = FOUND[name]
    model, survey = ChannelGraph().find_groups(make(), inputs)
    before = output(model, inputs)
    smaller = remove(model, inputs, {group.root: some(group) for group in survey.groups})
    after = output(smaller, inputs)
    assert after.shape == before.shape
    assert after.isfinite().all()


def test_a_grouped_convolution_loses_equally_many_channels_of_each_group():
    model = Grouped().eval()
    prunable, survey = ChannelGraph().find_groups(model, IMAGES)
    blocks = {group.root: group.blocks for group in survey.groups}
    assert blocks == {"first": 4, "grouped.0": 4, "transposed": 2}
    smaller = remove(copy.deepcopy(prunable), IMAGES, {"first": [0, 5, 11, 19]})
    assert smaller.grouped[0].weight.shape == (40, 4, 3, 3)
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for group, place in enumerate((0, 0, 1, 4)):
            zeroed.grouped[0].weight[10 * group : 10 * group + 10, place] = 0
    torch.testing.assert_close(output(smaller, IMAGES), output(zeroed, IMAGES), atol=1e-5, rtol=1e-4)
    with pytest.raises(CandidateFailed, match="equally many"):
        remove(prunable, IMAGES, {"first": [0, 1, 2, 3]})


def test_groups_come_in_the_order_of_the_calls_and_are_named_by_the_layer_called_first():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.outer, self.inner = nn.Linear(10, 4), nn.Conv2d(15, 10, 1), nn.Conv2d(10, 15, 1)
            self.stem = nn.Conv2d(3, 10, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x).relu()
            return self.head((x + self.outer(self.inner(x).relu())).mean((2, 3)))

    assert [group.root for group in surveyed(Backwards(), IMAGES).groups] == ["stem", "inner"]


# -- attention ---------------------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("padding", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["norm after", "norm first"])
def test_a_transformer_encoder(padding: bool, norm_first: bool):
    model = Encoder(padding, norm_first=norm_first).eval()
    with torch.no_grad():
        model.embed.weight[TOKENS[0, 0]] = 1.0
    prunable, survey = ChannelGraph().find_groups(model, TOKENS)
    layers = [f"encoder.layers.{i}" for i in range(2)]
    expected = {f"{name}.self_attn": (HEADS, 4) for name in layers} | {f"{name}.linear1": (MLP, 30) for name in layers}
    assert found(survey) == expected | {"embed": (CHANNELS, 16)}
    torch.testing.assert_close(output(prunable, TOKENS), output(model, TOKENS), atol=1e-5, rtol=1e-4)
    smaller = remove(prunable, TOKENS, {f"{layers[0]}.self_attn": [2], f"{layers[1]}.linear1": [0, 7]})
    with torch.no_grad():
        model.encoder.layers[0].self_attn.out_proj.weight[:, 8:12] = 0
        model.encoder.layers[1].linear2.weight[:, [0, 7]] = 0
    torch.testing.assert_close(output(smaller, TOKENS), output(model, TOKENS), atol=1e-5, rtol=1e-4)


def test_hand_written_attention():
    """The shapes in its code, c // heads, are those of the whole width."""
    task = tasks.transformer()
    survey = surveyed(task.model, task.train[0][:2])
    assert found(survey) == {
        "embedding": (CHANNELS, 32),
        **{f"blocks.{i}.attention": (HEADS, 4) for i in range(2)},
        **{f"blocks.{i}.mlp.0": (MLP, 64) for i in range(2)},
    }


def test_a_layer_norm_keeps_the_weights_of_the_channels_that_stay():
    """In their order: the rest of the layers keeps it."""
    model = nn.Sequential(nn.Linear(8, 100), nn.LayerNorm(100), nn.ReLU(), nn.Linear(100, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(100.0))
    smaller, survey = ChannelGraph().find_groups(model, VECTORS)
    assert found(survey)["0"] == (CHANNELS, 100)
    gone = [unit for unit in range(100) if unit not in (3, 40, 64, 99)]
    remove(smaller, VECTORS, {"0": gone})
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
    smaller, survey = ChannelGraph().find_groups(model, IMAGES)
    assert {group.root: group.blocks for group in survey.groups} == {"conv": blocks, "last": 1}
    group = next(group for group in survey.groups if group.root == "conv")
    remove(smaller, IMAGES, {"conv": some(group)})
    kept = [unit for unit in range(16) if unit not in some(group)]
    for name, own in smaller.norm.named_parameters():
        assert torch.equal(own, model.norm.get_parameter(name)[kept])
    assert torch.equal(smaller.last.weight, model.last.weight[:, kept])
    assert output(smaller, IMAGES).isfinite().all()


# -- what is left ------------------------------------------------------------------------------------------------------


class PaddedShortcut(nn.Module):
    """The channels of the shortcut lie in the middle of those that it is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, padding=1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.head((self.second(x) + F.pad(x, (0, 0, 0, 0, 4, 4))).relu().mean((2, 3)))


class Shuffled(nn.Module):
    """A channel shuffle, and a layer on either side of it that does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.shuffled, self.after = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shuffled(self.before(x).relu())
        x = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.head(self.after(x).relu().mean((2, 3)))


class Maxout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.head = nn.Conv2d(3, 16, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.maximum(*self.wide(x).chunk(2, 1)).mean((2, 3)))


class Softmax(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(8, 16), nn.Softmax(-1), nn.Linear(16, 4))


class Subpixel(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 16, 3), nn.PixelShuffle(2), nn.Conv2d(4, 2, 3))


class Scaled(nn.Module):
    """A buffer as wide as the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.register_buffer("scale", torch.rand(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.conv(x) * self.scale).relu().mean((2, 3)))


class NormOfBoth(nn.Module):
    """A group of this norm holds channels of one layer only, and all groups have to stay equally large."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(torch.cat([self.one(x), self.two(x)], 1)).relu().mean((2, 3)))


class TiedLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two, self.head = (nn.Linear(8, n) for n in (8, 8, 8, 4))
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(self.first(x).relu()).relu()).relu())


class Own(nn.LSTM):
    pass


class OwnLstm(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.first, self.rnn = nn.Linear(6, 8), kind(8, 10, batch_first=True, **options)
        self.hidden, self.head = nn.LazyLinear(12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.rnn(self.first(x))[0].mean(1)).relu())


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell, self.head = nn.Linear(6, 8), nn.GRUCell(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 8)
        for step in self.first(x).unbind(1):
            h = self.cell(step, h)
        return self.head(h)


ANOTHER, BREAKS = "removing units gives another function", "removing units breaks the model"
LEFT: dict[str, tuple[Callable[[], nn.Module], Inputs, dict[str, str]]] = {
    "padded shortcut": (PaddedShortcut, IMAGES, {"first": ANOTHER}),
    "shuffle": (Shuffled, IMAGES, {"shuffled": ANOTHER}),
    "maxout": (Maxout, IMAGES, {"wide": ANOTHER}),
    "softmax over channels": (Softmax, VECTORS, {"0": ANOTHER}),
    "subpixel": (Subpixel, IMAGES, {"0": BREAKS}),
    "buffer": (Scaled, IMAGES, {"conv": BREAKS}),
    "norm of two layers": (NormOfBoth, IMAGES, {"one": ANOTHER, "two": ANOTHER}),
    "norm of each channel": (
        lambda: Normed(lambda: nn.GroupNorm(16, 16)),
        IMAGES,
        {"conv": "its 16 units lie in 16 runs that cannot lose equally many"},
    ),
    "tied layers": (TiedLayers, VECTORS, {"one": "one.weight and two.weight are one weight"}),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 4)),
        VECTORS,
        {"0": BREAKS},
    ),
    "projected lstm": (lambda: OwnLstm(nn.LSTM, proj_size=5), SEQUENCES, {"rnn": "an LSTM with a projection"}),
    "own lstm": (lambda: OwnLstm(Own), SEQUENCES, {"rnn": "Own may do more"}),
    "cell in a loop": (Cell, SEQUENCES, {"first": "what depends on it cannot be told"}),
    "one unit": (lambda: nn.Sequential(nn.Linear(8, 1), nn.Linear(1, 4)), VECTORS, {"0": "it has one unit only"}),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", LEFT)
def test_left_with_a_reason(name: str):
    make, inputs, expected = LEFT[name]
    model = make().eval()
    output(model, inputs)
    survey = surveyed(model, inputs)
    reasons = left(survey)
    for module, reason in expected.items():
        assert reasons[module].startswith(reason)
        assert not any(root.startswith(module) for root in found(survey))


def test_what_lies_beside_a_group_that_is_left_can_shrink():
    assert found(surveyed(Shuffled(), IMAGES)) == {"before": (CHANNELS, 8), "after": (CHANNELS, 8)}


class GivenState(nn.Module):
    """An encoder's last state starts the decoder."""

    def __init__(self, named: bool = False) -> None:
        super().__init__()
        self.first, self.rnn, self.named = nn.Linear(6, 8), nn.LSTM(8, 10, batch_first=True), named
        self.hidden, self.head = nn.Linear(10, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        h = x.new_zeros(1, len(x), self.rnn.hidden_size if self.named else 10)
        y = self.rnn(x, hx=(h, h))[0] if self.named else self.rnn(x, (h, h))[0]
        return self.head(self.hidden(y.mean(1)).relu())


@pytest.mark.parametrize("named", [False, True])
def test_a_recurrent_layer_given_its_state_is_a_barrier(named: bool):
    model = GivenState(named).eval()
    prunable, survey = ChannelGraph().find_groups(model, SEQUENCES)
    assert found(survey) == {"hidden": (CHANNELS, 12)}
    reasons = left(survey)
    assert ("no attribute 'hidden_size'" if named else "initial state") in reasons["rnn"]
    assert reasons["first"] == "a recurrent layer that is left as it is fixes them"
    smaller = remove(prunable, SEQUENCES, {"hidden": [0, 5]})
    with torch.no_grad():
        model.head.weight[:, [0, 5]] = 0
    torch.testing.assert_close(output(smaller, SEQUENCES), output(model, SEQUENCES), atol=1e-5, rtol=1e-4)


class SharedLayers(nn.Module):
    """One encoder layer, three times in a list."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 30, batch_first=True)
        self.layers, self.head = nn.ModuleList([layer] * 3), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


def test_a_layer_held_several_times_stays_one():
    x = torch.randn(2, 5, 16)
    smaller, survey = ChannelGraph().find_groups(SharedLayers(), x)
    assert found(survey) == {"layers.0.self_attn": (HEADS, 4), "layers.0.linear1": (MLP, 30)}
    remove(smaller, x, {"layers.0.self_attn": [0], "layers.0.linear1": [3]})
    assert smaller.layers[0] is smaller.layers[1] is smaller.layers[2]
    assert smaller.layers[2].self_attn.num_heads == 3


def test_units_that_are_the_output_are_left():
    survey = surveyed(nn.Sequential(nn.Linear(8, 4)), VECTORS)
    assert not survey.groups
    assert left(survey) == {"0": "its units are the model's output"}


class Stubborn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def __deepcopy__(self, memo: Any) -> nn.Module:
        raise TypeError("not to be copied")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x))


def test_a_model_that_cannot_be_seen_fails_with_the_cause():
    with pytest.raises(CandidateFailed, match="not to be copied"):
        surveyed(Stubborn(), VECTORS)


# -- costs -------------------------------------------------------------------------------------------------------------


def test_multiply_accumulates_that_fall_with_a_group():
    macs = {group.root: group.macs for group in surveyed(Unet(), IMAGES).groups}
    assert macs == {
        "down1": 256 * 3 * 10 * 9 + 64 * 10 * 15 * 9 + 256 * (10 * 2 * 9),  # of ``out``, only what reads it
        "down2": 64 * 10 * 15 * 9 + 256 * 15 * 5 * 4,
        "up": 256 * 15 * 5 * 4 + 256 * (5 * 2 * 9),
    }


def test_steps_of_a_sequence_count_whichever_dimension_they_are():
    class Turned(Deep):
        def forward(self, x: Tensor) -> Tensor:
            self.rnn.batch_first = False
            return self.head(self.rnn(x.transpose(0, 1))[0].amax(0))

    first, other = ({group.root: group.macs for group in surveyed(make(), SEQUENCES).groups} for make in (Deep, Turned))
    assert first == other
    assert first["rnn.layers.1"] == 9 * 2 * 3 * 10 * (20 + 10) + 20 * 4

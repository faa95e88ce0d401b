"""Which groups are found, in networks of many kinds: that they are right, and that the rest is left with a reason.

``READS`` says for some networks, by hand, which weights read a group's units: removing some of the units has to give
what the user's own network gives with those weights set to zero.
"""

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.task import Inputs, Task
from autocompress_plugins.model_runs import output
from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.groups import CHANNELS, RECURRENT, FoundGroups, Group
from autocompress_plugins.shrinking.removal import remove_units

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
SEQUENCES = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(1))


def groups_of(model: nn.Module, inputs: Inputs) -> FoundGroups:
    return ChannelGraph().find_groups(model, inputs)[1]


def found(groups: FoundGroups) -> dict[str, tuple[str, int]]:
    return {group.root: (group.kind, group.size) for group in groups.groups}


def left(groups: FoundGroups) -> dict[str, str]:
    return {part.module: part.reason for part in groups.left}


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


def delivering_logits(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """The embedding is None in what such a model returns, so its width may change."""

    def made() -> nn.Module:
        model = make()
        return Task(
            "fusion", model, (), (), outputs=["logits" if type(model) is Fusion else "output_0"]
        ).copy_of_model()

    return made


BOTH_INPUTS = {"see": (CHANNELS, 10), "read": (CHANNELS, 5)}
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
    "inputs by name": (
        delivering_logits(Fusion),
        {"image": IMAGES, "words": TOKENS},
        {"see": (CHANNELS, 10), "read": (CHANNELS, 5)},
    ),
    "inputs by place": (
        delivering_logits(FusionByPlace),
        (IMAGES, TOKENS),
        {"see": (CHANNELS, 10), "read": (CHANNELS, 5)},
    ),
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


@cache
def prunable_form(name: str) -> tuple[nn.Module, nn.Module, FoundGroups]:
    """The user's model of a case, a prunable copy of it, and its groups; not to be changed."""
    make, inputs, _ = FOUND[name]
    model = make().eval()
    return model, *ChannelGraph().find_groups(model, inputs)


@pytest.mark.parametrize("name", FOUND)
def test_the_groups_of(name: str):
    _, _, groups = prunable_form(name)
    assert found(groups) == FOUND[name][2]
    assert set(left(groups).values()) == {"its units are the model's output"}


@pytest.mark.parametrize("name", READS)
def test_removing_units_is_zeroing_what_reads_them(name: str):
    inputs, (model, prunable, groups) = FOUND[name][1], prunable_form(name)
    assert READS[name].keys() <= found(groups).keys()
    for group in (own for own in groups.groups if own.root in READS[name]):
        zeroed, units = copy.deepcopy(model), some(group)
        with torch.no_grad():
            for weight, places in READS[name][group.root].items():
                for unit in units:
                    zeroed.get_parameter(weight)[:, [unit] if places is None else places(unit)] = 0
        smaller = remove_units(copy.deepcopy(prunable), inputs, {group.root: units})
        assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
        torch.testing.assert_close(output(smaller, inputs), output(zeroed, inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FOUND)
def test_all_groups_together_can_go(name: str):
    inputs, (model, prunable, groups) = FOUND[name][1], prunable_form(name)
    smaller = remove_units(copy.deepcopy(prunable), inputs, {group.root: some(group) for group in groups.groups})
    after = output(smaller, inputs)
    assert after.shape == output(model, inputs).shape
    assert after.isfinite().all()


def test_a_grouped_convolution_loses_equally_many_channels_of_each_group():
    model, prunable, groups = prunable_form("grouped")
    blocks = {group.root: group.blocks for group in groups.groups}
    assert blocks == {"first": 4, "grouped.0": 4, "transposed": 2}
    smaller = remove_units(copy.deepcopy(prunable), IMAGES, {"first": [0, 5, 11, 19]})
    assert smaller.grouped[0].weight.shape == (40, 4, 3, 3)
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for group, place in enumerate((0, 0, 1, 4)):
            zeroed.grouped[0].weight[10 * group : 10 * group + 10, place] = 0
    torch.testing.assert_close(output(smaller, IMAGES), output(zeroed, IMAGES), atol=1e-5, rtol=1e-4)
    with pytest.raises(CandidateFailed, match="equally many"):
        remove_units(copy.deepcopy(prunable), IMAGES, {"first": [0, 1, 2, 3]})


def test_groups_come_in_the_order_of_the_calls_and_are_named_by_the_layer_called_first():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.outer, self.inner = nn.Linear(10, 4), nn.Conv2d(15, 10, 1), nn.Conv2d(10, 15, 1)
            self.stem = nn.Conv2d(3, 10, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x).relu()
            return self.head((x + self.outer(self.inner(x).relu())).mean((2, 3)))

    assert [group.root for group in groups_of(Backwards(), IMAGES).groups] == ["stem", "inner"]

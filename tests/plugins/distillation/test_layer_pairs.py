"""Which layers are compared: a few of one name, spread over the depth, with their channels told from their places."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress.task import Task
from autocompress_plugins.distillation.layer_pairs import inner_layers, layer_pairs


@pytest.fixture
def context_of(make_context: Any) -> Callable[..., Context]:
    """``context_of(model, x)``: a context whose reference is ``model``."""

    def make(model: nn.Module, x: Any) -> Context:
        data = (x, torch.arange(len(x)) % 2)
        return make_context(Task(name="made", model=model, train=data, val=data))

    return make


def names(student: nn.Module, context: Context, **others: Any) -> list[str]:
    return [pair.name for pair in layer_pairs(student, context, **others)]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class Deep(nn.Module):
    def __init__(self, width: int = 8, blocks: int = 6, stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))


IMAGES = torch.randn(8, 1, 8, 8)


def test_blocks_are_chosen_over_the_whole_depth_and_never_the_output(context_of: Any) -> None:
    assert names(Deep(), context_of(Deep(), IMAGES)) == ["blocks.0", "blocks.2", "blocks.3", "blocks"]


def test_a_shallow_model_gives_what_it_has(tiny_context: Context, tiny_class: type[nn.Module]) -> None:
    pairs = layer_pairs(tiny_class(4), tiny_context)
    assert [(p.name, p.axis, p.student, p.teacher) for p in pairs] == [("bn", 1, 4, 8), ("conv2", 1, 8, 16)]


class Series(nn.Module):
    """(N, 3, 20), channels second."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(3, width, 3), nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, width, 3))
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(2))


class Recurrent(nn.Module):
    """(N, 9, 3), channels last; the inner layer returns a tuple."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Patches(nn.Module):
    """A convolution whose map becomes a sequence, channels last from then on."""

    class Embed(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, width, 2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x).flatten(2).transpose(1, 2)

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed = self.Embed(width)
        self.mlp = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mlp(self.embed(x)).mean(1))


class Permuted(nn.Module):
    """Linear layers on maps: ``keep`` leaves the channels last (Swin), else they go back to second (ConvNeXt)."""

    class Mix(nn.Module):
        def __init__(self, width: int, keep: bool) -> None:
            super().__init__()
            self.linear, self.keep = nn.Linear(width, width), keep

        def forward(self, x: Tensor) -> Tensor:
            y = self.linear(x.permute(0, 2, 3, 1))
            return y if self.keep else y.permute(0, 3, 1, 2)

    def __init__(self, width: int, keep: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.mix = self.Mix(width, keep)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(self.conv(x))
        return self.head(y.mean((1, 2) if self.mix.keep else (2, 3)))


@pytest.mark.parametrize(
    ("make", "x", "expected"),
    [
        (Series, torch.randn(8, 3, 20), {"body.1": (1, 4, 8), "body": (1, 4, 8)}),
        (Recurrent, torch.randn(8, 9, 3), {"rnn": (2, 8, 16)}),
        (Patches, IMAGES, {"embed": (2, 4, 8), "mlp": (2, 4, 8)}),
        (lambda w: Permuted(w, keep=True), IMAGES, {"conv": (1, 4, 8), "mix": (3, 4, 8)}),
        (lambda w: Permuted(w, keep=False), IMAGES, {"conv": (1, 4, 8), "mix": (1, 4, 8)}),
    ],
    ids=["conv1d", "recurrent", "patches", "channels last", "channels put back"],
)
def test_channels_are_found_wherever_they_are(
    make: Callable[[int], nn.Module], x: Tensor, expected: dict[str, tuple[int, int, int]], context_of: Any
) -> None:
    pairs = layer_pairs(make(4), context_of(make(8), x))
    assert {pair.name: (pair.axis, pair.student, pair.teacher) for pair in pairs} == expected


def test_layers_of_another_size_are_skipped(context_of: Any) -> None:
    student = Deep()
    student.blocks[2] = nn.Sequential(Block(8), nn.AvgPool2d(2))  # all maps are smaller from here on
    found = names(student, context_of(Deep(), IMAGES))
    assert {"stem", "blocks.0", "blocks.1"} <= set(found)
    assert all(name.startswith(("stem", "blocks.0", "blocks.1")) for name in found)


def test_a_layer_that_was_dropped_is_not_compared_and_a_replaced_one_is(context_of: Any) -> None:
    student, context = Deep(), context_of(Deep(), IMAGES)
    assert "blocks.2" in names(student, context)
    student.blocks[2] = nn.Sequential(nn.Conv2d(8, 2, 3, padding=1), nn.Conv2d(2, 8, 1))
    assert "blocks.2" in names(student, context)
    student.blocks[2] = nn.Identity()
    assert "blocks.2" not in names(student, context)


def test_maps_leaves_layers_without_places_out(context_of: Any) -> None:
    flat = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 8), nn.ReLU(), nn.Linear(8, 2))
    context = context_of(flat, IMAGES)
    assert names(flat, context) == ["0", "2"]
    assert names(flat, context, maps=True) == ["0"]


def test_nothing_in_common_fails_with_layers_named(context_of: Any) -> None:
    with pytest.raises(CandidateFailed, match=r"stem, blocks\.0"):
        layer_pairs(Deep(stride=2), context_of(Deep(), IMAGES))


def test_a_single_layer_has_nothing_inside(context_of: Any) -> None:
    assert inner_layers(context_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), IMAGES)) == {}


def test_looking_leaves_both_models_as_they_were(tiny_context: Context, tiny_class: type[nn.Module]) -> None:
    student = tiny_class(4).train()
    both = student, tiny_context.model
    before = [copy.deepcopy(model.state_dict()) for model in both]
    layer_pairs(student, tiny_context)
    assert student.training
    assert not tiny_context.model.training
    for model, values in zip(both, before, strict=True):
        assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
        assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_padded_sequences_are_passed_over_where_the_padding_is_left_out(context_of: Any) -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, 8)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
            self.head = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.encoder(self.embedding(x), src_key_padding_mask=x == 0)[:, 0])

    tokens = torch.randint(1, 10, (8, 6))
    tokens[0, 4:] = 0
    context = context_of(Padded(), tokens)
    assert {"embedding", "encoder"} <= set(names(Padded(), context))

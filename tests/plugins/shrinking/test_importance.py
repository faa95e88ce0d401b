"""Each criterion, against sums written out by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress_plugins.shrinking.channel_graph import every_group
from autocompress_plugins.shrinking.groups import CHANNELS, RECURRENT, Group, Member
from autocompress_plugins.shrinking.importance import importance, taylor
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.recurrent_layers import RecurrentLayer


def member(module: str, side: str, size: int) -> Member:
    return Member(module, side, tuple(range(size)), tuple(range(size)))


def group(size: int, *members: Member, kind: str = CHANNELS) -> Group:
    return Group(members[0].module, kind, size, members)


class Small(nn.Module):
    """Three channels: made by ``conv``, normed, and read by ``head`` at four pixels each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(12, 2)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).flatten(1))


PIXELS = Member("head", "in", tuple(range(12)), tuple(i // 4 for i in range(12)))
SMALL = group(3, member("conv", "out", 3), member("norm", "out", 3), PIXELS)


def mean_one(values: Tensor) -> Tensor:
    return values / values.mean()


def of_unit(model: Small, unit: int) -> list[Tensor]:
    """The weights that go with a unit; biases and norms are no part of it."""
    return [model.conv.weight[unit], model.head.weight[:, 4 * unit : 4 * unit + 4]]


def test_l1_and_l2_are_norms_of_what_makes_and_reads_a_unit():
    model = Small()
    absolute = torch.stack([sum(w.abs().sum() for w in of_unit(model, unit)) for unit in range(3)])
    squares = torch.stack([sum(w.square().sum() for w in of_unit(model, unit)) for unit in range(3)])
    torch.testing.assert_close(importance(model, SMALL, "l1"), mean_one(absolute).detach())
    torch.testing.assert_close(importance(model, SMALL, "l2"), mean_one(squares.sqrt()).detach())


def test_lamp_is_the_share_among_the_units_at_least_as_large():
    model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0], [1.0], [2.0]]))
        model[1].weight.zero_()
    found = importance(model, group(3, member("0", "out", 3), member("1", "in", 3)), "lamp")
    torch.testing.assert_close(found, torch.tensor([9 / 9, 1 / (1 + 4 + 9), 4 / (4 + 9)]))


def test_bn_scale_is_the_scale_of_the_batch_norm():
    model = Small()
    torch.testing.assert_close(importance(model, SMALL, "bn_scale"), mean_one(model.norm.weight.abs()).detach())


def test_bn_scale_without_a_batch_norm_is_l2():
    model, bare = Small(), group(3, member("conv", "out", 3), PIXELS)
    torch.testing.assert_close(importance(model, bare, "bn_scale"), importance(model, bare, "l2"))


def test_taylor_is_the_squared_first_order_change():
    """Per unit, the derivative of the loss along taking its weights to zero."""
    model, batches = Small().eval(), torch.randn(3, 5, 2, 4, 4)
    expected = sum(torch.stack(slopes(model, x)).square() for x in batches)
    found = taylor(model, [SMALL], (model(x).square().mean() for x in batches))
    torch.testing.assert_close(found["conv"], mean_one(expected), rtol=1e-4, atol=1e-5)


def slopes(model: Small, x: Tensor) -> list[Tensor]:
    found = []
    for unit in range(3):
        scale = torch.ones((), requires_grad=True)
        at = torch.arange(3) == unit
        made = model.conv.weight * torch.where(at, scale, 1.0)[:, None, None, None]
        y = model.norm(nn.functional.conv2d(x, made, model.conv.bias)).flatten(1)
        read = model.head.weight * torch.where(at.repeat_interleave(4), scale, 1.0)
        loss = nn.functional.linear(y, read, model.head.bias).square().mean()
        found += torch.autograd.grad(loss, scale)
    return found


def test_taylor_where_gradients_of_batches_cancel():
    """At a minimum they do, and say nothing when they are added up."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[1].weight.fill_(1.0)
    both = group(2, member("0", "out", 2), member("1", "in", 2))
    batches = [torch.tensor([[1.0, 3.0]]), torch.tensor([[-1.0, -3.0]])]
    found = taylor(model, [both], (model(x).sum() for x in batches))["0"]
    torch.testing.assert_close(found, torch.tensor([2 * 1 / 10, 2 * 9 / 10]))


def test_taylor_of_an_unused_parameter_is_nothing():
    model = Small()
    assert not taylor(model, [SMALL], [model.conv.bias.sum()])["conv"].any()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor", "lamp", "bn_scale"])
def test_a_larger_unit_matters_more(criterion: str):
    model, x = Small().eval(), torch.randn(64, 2, 4, 4)
    with torch.no_grad():
        for unit, size in enumerate((1.0, 0.1, 3.0)):
            for weight in (model.conv.weight[unit], model.head.weight[:, 4 * unit : 4 * unit + 4]):
                weight.normal_().mul_(size)
            model.norm.weight[unit] = size
    if criterion == "taylor":
        found = taylor(model, [SMALL], [model(x).square().sum()])["conv"]
    else:
        found = importance(model, SMALL, criterion)
    assert found.argsort().tolist() == [1, 0, 2]


# -- layers of each kind, by the squares of their weights --------------------------------------------------------------


def squares(model: nn.Module, found: Group) -> Tensor:
    """Sums of squares, up to the scale that ``importance`` divides out."""
    return importance(model, found, "l2").square()


def assert_alike(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got / got.sum(), (expected / expected.sum()).detach())


@pytest.mark.parametrize("side", ["in", "out"])
@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3, groups=3), nn.Conv2d(6, 6, 3, groups=6), nn.ConvTranspose2d(6, 6, 3),
     nn.ConvTranspose2d(6, 6, 3, groups=2), nn.Conv1d(6, 6, 2), nn.Linear(6, 6)],
    ids=["conv", "grouped", "depthwise", "transposed", "grouped transposed", "conv1d", "linear"],
)  # fmt: skip
def test_weights_of_a_channel_are_those_that_its_output_hangs_on(layer: nn.Module, side: str):
    """By the gradient: which weights matter to an output channel, or carry an input channel."""
    x = torch.rand(1, 6, *[5] * (layer.weight.dim() - 2)) + 1
    expected = []
    for channel in range(6):
        given = x.clone()
        if side == "in":
            given[:, torch.arange(6) != channel] = 0
        y = layer(given)
        (gradient,) = torch.autograd.grad((y if side == "in" else y[:, channel]).sum(), layer.weight)
        expected.append(layer.weight[gradient != 0].square().sum())
    model = nn.ModuleDict({"layer": layer})
    assert_alike(squares(model, group(6, member("layer", side, 6))), torch.stack(expected))


def test_an_embedding():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3)})
    assert_alike(squares(model, group(3, member("embed", "out", 3))), model["embed"].weight.square().sum(0))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_unit_is_its_row_in_every_gate(kind: type[nn.RNNBase]):
    layer = RecurrentLayer(kind(3, 2, bidirectional=True))
    model = nn.ModuleDict({"rnn": layer})
    expected = []
    for suffix in ("", "_reverse"):
        rows = torch.cat([getattr(layer.core, f"weight_{part}_l0{suffix}") for part in ("ih", "hh")], 1)
        expected += [rows[unit::2].square().sum() for unit in range(2)]
    found = group(4, member("rnn", "out", 4), kind=RECURRENT)
    assert_alike(squares(model, found), torch.stack(expected))
    columns = layer.core.weight_ih_l0.square().sum(0) + layer.core.weight_ih_l0_reverse.square().sum(0)
    assert_alike(squares(model, group(3, member("rnn", "in", 3))), columns)


class Attending(nn.Module):
    """(N, T, 6) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def test_a_head_is_its_query_key_value_and_what_reads_it():
    model, x = Attending(), torch.randn(2, 4, 6)
    prunable(model, x)
    (found,) = every_group(model, x)
    attention: Any = model.attention
    assert (found.root, found.size) == ("attention", 3)
    expected = [
        attention.qkv.weight.view(3, 3, 2, 6)[:, head].square().sum()
        + attention.out.weight[:, 2 * head : 2 * head + 2].square().sum()
        for head in range(3)
    ]
    assert_alike(squares(model, found), torch.stack(expected))

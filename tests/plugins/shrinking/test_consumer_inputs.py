"""Which layers read a group's units, and the second moments of what they are given."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress_plugins.shrinking import consumer_inputs, input_moments, narrowing
from autocompress_plugins.shrinking.channel_graph import channel_graph
from autocompress_plugins.shrinking.consumer_inputs import consumer_statistics, consumers_of
from autocompress_plugins.shrinking.groups import CHANNELS, HEADS, MLP, RECURRENT, Group, Member
from autocompress_plugins.shrinking.narrowing import Amount
from autocompress_plugins.shrinking.surgeon import ConsumerStatistics
from autocompress_plugins.shrinking.unit_measurements import importances, least_important

MakeContext = Callable[..., Context]


def group(module: str, width: int, places: int = 1) -> Group:
    """That a layer reads, ``places`` columns of each unit."""
    reads = Member(module, "in", tuple(range(width)), tuple(i // places for i in range(width)))
    return Group("made", CHANNELS, width // places, (reads,))


def statistics(model: nn.Module, of: Group, *batches: Tensor) -> ConsumerStatistics:
    (found,) = consumer_statistics(model.eval(), [of], batches)[of.root]
    return found


def moments(rows: Tensor, centred: bool) -> Tensor:
    rows = rows.double()
    rows = rows - rows.mean(0) if centred else rows
    return rows.T @ rows / len(rows)


def assert_alike(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_of_a_linear_layer_over_all_batches_about_the_mean_if_it_has_a_bias(bias: bool):
    x = torch.randn(8, 5, 4) + 2
    layer = nn.Linear(4, 3, bias=bias)
    found = statistics(nn.Sequential(layer), group("0", 4), x[:5], x[5:])
    assert_alike(found.gram, moments(x.flatten(0, 1), bias))
    assert torch.equal(found.weight, layer.weight)
    assert found.units == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 6, (1, 3), bias=False), (2, 4, 7, 6)),
        (nn.Conv1d(4, 6, 5, padding="same"), (2, 4, 9)),
        (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 5)),
        (nn.ConvTranspose3d(4, 6, 2), (2, 4, 3, 4, 5)),
    ],
    ids=["2d", "1d", "groups", "transposed groups", "transposed 3d"],
)
def test_of_a_convolution_between_the_channels_of_each_group(layer: Any, shape: tuple[int, ...]):
    x, of = torch.randn(shape) + 1, group("0", 4)
    rows, run = x.movedim(1, -1).flatten(0, -2), 4 // layer.groups
    found = consumer_statistics(nn.Sequential(layer).eval(), [of], [x])[of.root]
    assert len(found) == layer.groups
    for number, one in enumerate(found):
        assert one.units == tuple(range(number * run, (number + 1) * run))
        assert_alike(one.gram, moments(rows[:, list(one.units)], layer.bias is not None))
    weights = torch.cat([one.weight.double().square().sum(0) for one in found])
    middle = [9] * (len(shape) - 2)
    for channel in range(4):  # a single pixel spreads over the kernel's places
        alone = torch.zeros(1, 4, *middle)
        alone[0, channel][tuple(size // 2 for size in middle)] = 1.0
        gave = layer(alone) - layer(torch.zeros_like(alone))
        assert_alike(weights[channel], gave.double().square().sum())


def test_a_flattened_image_of_too_many_columns_is_pooled_over_its_pixels(monkeypatch: pytest.MonkeyPatch):
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.randn(6, 3, 2, 2)
    whole = statistics(model, group("1", 12, places=4), x)
    assert_alike(whole.gram, moments(x.flatten(1), True))
    monkeypatch.setattr(consumer_inputs, "MOST_COLUMNS", 10)
    pooled = statistics(model, group("1", 12, places=4), x)
    assert_alike(pooled.gram, moments(x.movedim(1, -1).flatten(0, 2), True))
    squares = [one.weight.square().sum(0) for one in (pooled, whole)]
    assert_alike(squares[0], squares[1].view(3, 4).sum(1))
    assert (whole.units, pooled.units) == (tuple(i // 4 for i in range(12)), (0, 1, 2))


def test_of_many_places_some_are_looked_at(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(input_moments, "MOST_ROWS", 400)
    x, layer = torch.randn(4, 2, 40, 40), nn.Conv2d(2, 1, 1)
    found = statistics(nn.Sequential(layer), group("0", 2), x, x)
    whole = moments(x.movedim(1, -1).flatten(0, 2), True)
    assert not torch.allclose(found.gram, whole, atol=1e-6)
    torch.testing.assert_close(found.gram, whole, rtol=0, atol=0.2)


def test_about_the_mean_where_a_batch_norm_is_right_behind():
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(2, 3, 1, bias=False)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.one(x)) + self.norm(F.relu(self.other(x)))

    x, model = torch.randn(4, 2, 3, 3) + 3, Normed()
    rows = x.movedim(1, -1).flatten(0, 2)
    assert_alike(statistics(model, group("one", 2), x).gram, moments(rows, True))
    assert_alike(statistics(model, group("other", 2), x).gram, moments(rows, False))


def test_what_cannot_be_refitted_is_no_reader():
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4))
    assert consumers_of(model, group("0", 4)) == consumers_of(model, group("1", 4)) == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_names_the_layer(value: float):
    x = torch.randn(4, 3)
    x[2, 1] = value
    with pytest.raises(CandidateFailed, match="what 0 is given is not finite"):
        consumer_statistics(nn.Sequential(nn.Linear(3, 2)), [group("0", 3)], [x])


def test_a_weight_that_is_no_number_names_the_layer():
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    with pytest.raises(CandidateFailed, match="the weight of 0 is not finite"):
        consumer_statistics(model, [group("0", 3)], [torch.randn(4, 3)])


def test_a_constant_channel_is_free_where_there_is_an_intercept_and_one_example_is_enough(make_context: MakeContext):
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[0].weight[4] = 0
        model[0].bias[4] = 7.0
        model[2].weight[:, 4] = 100.0
    for x in (torch.randn(64, 3), torch.randn(1, 3)):
        context = make_context(model, x)
        whole, found = channel_graph(context).find_groups(context.model, context.example_inputs, frozenset({CHANNELS}))
        values = importances(whole, found.groups, "surgeon", context)["0"]
        assert values.isfinite().all()
        if len(x) > 1:
            assert float(values[4]) < 1e-6
            assert 4 in least_important(values, found.groups[0], 4)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_units_are_read_by_their_own_matrix_and_the_next_layer(
    bidirectional: bool, make_context: MakeContext
):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, 2, bidirectional=bidirectional, batch_first=True)
            self.head = nn.Linear(8 if bidirectional else 4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0].mean(1))

    context = make_context(Recurrent(), torch.randn(16, 5, 3))
    whole, found = channel_graph(context).find_groups(context.model, context.example_inputs, frozenset({RECURRENT}))
    directions = 2 if bidirectional else 1
    layers = [[consumer.layer for consumer in consumers_of(whole, own)] for own in found.groups]
    assert layers == [
        [*["rnn.layers.0"] * directions, "rnn.layers.1"],
        [*["rnn.layers.1"] * directions, "head"],
    ]
    x = context.task.train[0]
    first = whole.rnn.layers[0](x)[0].detach()
    read = consumer_statistics(whole, found.groups, [x])[found.groups[0].root]
    assert_alike(read[-1].gram, moments(first.flatten(0, 1), True))
    assert_alike(read[directions - 1].gram, moments(first[..., -4:].flatten(0, 1), True))
    assert read[directions - 1].units == tuple(range(4 * directions))[-4:]
    values = importances(whole, found.groups, "surgeon", context)
    gone = least_important(values[found.groups[0].root], found.groups[0], 2 * directions)
    assert gone == sorted(values[found.groups[0].root].argsort()[: 2 * directions].tolist())


def test_heads_are_read_by_the_output_projection_and_mlps_by_the_second_layer(transformer: Context):
    model, found = channel_graph(transformer).find_groups(transformer.model, transformer.example_inputs)
    heads = next(own for own in found.groups if own.kind == HEADS)
    (reader,) = consumers_of(model, heads)
    assert reader.layer == f"{heads.root}.out"
    assert reader.units == tuple(i // (len(reader.units) // heads.size) for i in range(len(reader.units)))
    mlp = next(own for own in found.groups if own.kind == MLP)
    assert [consumer.units for consumer in consumers_of(model, mlp)] == [tuple(range(mlp.size))]
    stream = next(own for own in found.groups if own.kind == CHANNELS)
    assert len(consumers_of(model, stream)) > 2


def test_it_is_measured_once_for_all_ratios(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch):
    context = make_context(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(32, 3))
    model, found = channel_graph(context).find_groups(context.model, context.example_inputs, frozenset({CHANNELS}))
    first = importances(model, found.groups, "surgeon", context)["0"]
    calls: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, given, gave: calls.append(gave))
    assert importances(model, found.groups, "surgeon", context)["0"] is first
    assert not calls
    with torch.no_grad():
        model[2].weight[:, int(first.argmax())] = 0
    assert importances(model, found.groups, "surgeon", context)["0"].argmin() == first.argmax()
    assert calls
    handle.remove()


def test_where_nothing_can_be_refitted_norms_decide(make_context: MakeContext):
    context = make_context(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.randn(8, 3))
    of = Group("0", CHANNELS, 4, (Member("0", "out", (0, 1, 2, 3), (0, 1, 2, 3)),))
    by_surgeon, by_norm = (importances(context.model, [of], criterion, context)["0"] for criterion in ("surgeon", "l2"))
    assert torch.equal(by_surgeon, by_norm)


def test_of_all_groups_together_the_one_with_twins_loses_most(make_context: MakeContext):
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    with torch.no_grad():
        model[2].weight[4:], model[2].bias[4:] = model[2].weight[:4].clone(), model[2].bias[:4].clone()
    context = make_context(model, torch.randn(256, 8))
    removed = narrowing.plan(context.model, Amount({CHANNELS: 0.25}, "surgeon", allocation="global"), context)["remove"]
    assert {root: len(units) for root, units in removed.items()} == {"2": 4}
    assert {unit % 4 for unit in removed["2"]} == {0, 1, 2, 3}

"""A stack of single layers in the place of nn.LSTM, nn.GRU and nn.RNN: the same function, and units that can go."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from autocompress.errors import CandidateFailed
from autocompress.plain_model import plain_copy
from autocompress_plugins.model_runs import output
from autocompress_plugins.shrinking.channel_graph import ChannelGraph
from autocompress_plugins.shrinking.groups import CHANNELS, RECURRENT
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.recurrent_layers import GATES, RecurrentBarrier, RecurrentStack
from autocompress_plugins.shrinking.removal import remove_units

INPUTS, HIDDEN, STEPS = 5, 6, 7
KINDS = pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
DIRECTIONS = pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])


def flat(result: tuple[Tensor, Any]) -> list[Tensor]:
    """Outputs, last hidden states and, of an LSTM, cells, the states as (layers * directions, N, H)."""
    y, states = result
    whole = states if isinstance(states, tuple) and isinstance(states[0], (tuple, Tensor)) else (states,)
    if isinstance(states, tuple) and isinstance(states[0], Tensor) and states[0].dim() == 2:
        whole = (states,)
    return [y, *(state if isinstance(state, Tensor) else torch.stack(state) for state in whole)]


def assert_same(got: tuple[Tensor, Any], expected: tuple[Tensor, Any], tolerance: float = 1e-5) -> None:
    for one, other in zip(flat(got), flat(expected), strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


@KINDS
@DIRECTIONS
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_stack_gives_what_the_layer_gave(kind: Any, bidirectional: bool, layers: int, batch_first: bool):
    whole = kind(INPUTS, HIDDEN, layers, bidirectional=bidirectional, batch_first=batch_first).eval()
    x = torch.randn(4, STEPS, INPUTS)
    assert_same(RecurrentStack(whole).eval()(x), whole(x))


@pytest.mark.parametrize(
    "whole",
    [
        nn.RNN(INPUTS, HIDDEN, 2, nonlinearity="relu"),
        nn.LSTM(INPUTS, HIDDEN, 2, bias=False),
        nn.GRU(INPUTS, HIDDEN, 2, dropout=0.5).eval(),
    ],
    ids=["relu", "no bias", "dropout"],
)
def test_a_stack_keeps_the_options(whole: Any):
    x = torch.randn(4, STEPS, INPUTS)
    assert_same(RecurrentStack(whole).train(whole.training)(x), whole(x))


def test_a_stack_is_called_as_the_layer_is():
    whole, x = nn.GRU(INPUTS, HIDDEN, 2), torch.randn(STEPS, 2, INPUTS)
    stack = RecurrentStack(whole)
    stack.flatten_parameters()
    assert_same(stack(input=x, hx=None), whole(input=x, hx=None))


def test_the_dropout_between_layers_stays():
    whole = nn.GRU(INPUTS, HIDDEN, 2, dropout=0.5)
    stack, x = RecurrentStack(whole).train(), torch.randn(4, STEPS, INPUTS)
    assert not torch.equal(stack(x)[0], stack(x)[0])
    assert torch.equal(stack.eval()(x)[0], stack(x)[0])


@KINDS
@DIRECTIONS
def test_removing_units_is_zeroing_what_reads_them(kind: Any, bidirectional: bool):
    """In the user's own layer: the recurrent columns of the units, and the columns of the next layer."""
    whole = kind(INPUTS, HIDDEN, 2, bidirectional=bidirectional, batch_first=True).eval()
    directions = 2 if bidirectional else 1
    gone = [1, 4, 6, 9][: 2 * directions]  # by place in the output: both directions lose two, not the same ones
    smaller = RecurrentStack(copy.deepcopy(whole)).eval()
    smaller.layers[0].remove_outputs(gone)
    smaller.layers[1].remove_inputs(gone)
    with torch.no_grad():
        for d, suffix in enumerate(["", "_reverse"][:directions]):
            getattr(whole, f"weight_hh_l0{suffix}")[:, [g - d * HIDDEN for g in gone if g // HIDDEN == d]] = 0
            getattr(whole, f"weight_ih_l1{suffix}")[:, gone] = 0
    x = torch.randn(4, STEPS, INPUTS)
    got, expected = smaller(x), whole(x)
    torch.testing.assert_close(got[0], expected[0], atol=1e-5, rtol=0)
    states = got[1][0] if kind is nn.LSTM else got[1]
    expected_states = expected[1][0] if kind is nn.LSTM else expected[1]
    kept = [k for k in range(HIDDEN) if k not in gone]
    torch.testing.assert_close(states[0], expected_states[0][:, kept], atol=1e-5, rtol=0)
    assert smaller.layers[0].core.hidden_size == HIDDEN - 2
    assert len(smaller.layers[0].core.weight_ih_l0) == GATES[kind] * (HIDDEN - 2)


@KINDS
def test_removing_inputs_is_zeroing_their_columns(kind: Any):
    whole = kind(INPUTS, HIDDEN, bidirectional=True)
    smaller = RecurrentStack(copy.deepcopy(whole))
    smaller.layers[0].remove_inputs([0, 3])
    with torch.no_grad():
        whole.weight_ih_l0[:, [0, 3]] = 0
        whole.weight_ih_l0_reverse[:, [0, 3]] = 0
    x = torch.randn(STEPS, 2, INPUTS)
    torch.testing.assert_close(smaller(x[..., [1, 2, 4]])[0], whole(x)[0], atol=1e-5, rtol=0)


def test_both_directions_lose_equally_many_and_keep_one():
    layer = RecurrentStack(nn.GRU(INPUTS, HIDDEN, bidirectional=True)).layers[0]
    for gone in ([0, 1], list(range(2 * HIDDEN))):
        with pytest.raises(CandidateFailed, match="directions"):
            layer.remove_outputs(gone)
    assert layer.core.hidden_size == HIDDEN


class Own(nn.LSTM):
    pass


@pytest.mark.parametrize(
    ("whole", "reason"),
    [(nn.LSTM(INPUTS, HIDDEN, proj_size=3), "projection"), (Own(INPUTS, HIDDEN), "Own may do more")],
)
def test_what_is_no_plain_layer_is_refused(whole: Any, reason: str):
    with pytest.raises(CandidateFailed, match=reason):
        RecurrentStack(whole)


def test_a_stack_refuses_an_initial_state():
    stack = RecurrentStack(nn.GRU(INPUTS, HIDDEN))
    with pytest.raises(CandidateFailed, match="initial state"):
        stack(torch.randn(STEPS, 2, INPUTS), torch.zeros(1, 2, HIDDEN))


@pytest.mark.parametrize("named", [False, True])
def test_a_barrier_is_the_layer_it_holds(named: bool):
    core = nn.LSTM(INPUTS, HIDDEN, bidirectional=True)
    x, state = torch.randn(STEPS, 2, INPUTS), (torch.randn(2, 2, HIDDEN), torch.randn(2, 2, HIDDEN))
    barrier = RecurrentBarrier(core)
    assert_same(barrier(x, hx=state) if named else barrier(x, state), core(x, state), 0)
    assert barrier.hidden_size == HIDDEN
    assert barrier.weight_ih_l0 is core.weight_ih_l0
    with pytest.raises(AttributeError):
        _ = barrier.no_such_thing


@pytest.mark.parametrize("stands_in", [RecurrentStack, RecurrentBarrier])
def test_the_stand_in_has_the_layers_shapes(stands_in: Any):
    core, x = nn.LSTM(INPUTS, HIDDEN, 2, bidirectional=True, batch_first=True), torch.randn(3, STEPS, INPUTS)
    module = stands_in(core)
    for inner in module.modules():
        inner.opaque = True
    y, (hidden, cell) = module(x)
    expected, states = core(x)
    assert y.shape == expected.shape
    assert [h.shape for h in hidden] == [h.shape for h in states[0]]
    assert [c.shape for c in cell] == [c.shape for c in states[1]]


class OverPacked(nn.Module):
    """Token ids (N, 8), 0 where a text is over -> (N, 3). last: from the last states alone."""

    def __init__(self, kind: Any, layers: int, both_ways: bool, last: bool) -> None:
        super().__init__()
        self.embedding, self.last, self.has_cell = nn.Embedding(20, INPUTS), last, kind is nn.LSTM
        self.rnn = kind(INPUTS, HIDDEN, layers, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(HIDDEN * (1 + both_ways), 3)

    def forward(self, ids: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(ids), (ids > 0).sum(1), batch_first=True, enforce_sorted=False)
        y, state = self.rnn(packed)
        if not self.last:
            return self.head(pad_packed_sequence(y, batch_first=True)[0].sum(1))
        hidden = state[0] if self.has_cell else state
        return self.head(torch.cat([hidden[-2], hidden[-1]], 1) if self.rnn.bidirectional else hidden[-1])


LENGTHS = torch.tensor([8, 3, 5, 1])
IDS = torch.randint(1, 20, (4, 8), generator=torch.Generator().manual_seed(0)) * (torch.arange(8) < LENGTHS[:, None])


@KINDS
@DIRECTIONS
@pytest.mark.parametrize("last", [False, True], ids=["all places", "last states"])
def test_units_can_go_where_sequences_are_packed(kind: Any, bidirectional: bool, last: bool):
    model = OverPacked(kind, 2, bidirectional, last).eval()
    whole, found = ChannelGraph().find_groups(model, IDS)  # removing half of each was compared with zeroing
    assert found.reasons == {"head": "its units are the model's output"}
    width = HIDDEN * (2 if bidirectional else 1)
    assert {group.root: group.size for group in found.groups} == {
        "embedding": INPUTS,
        "rnn.layers.0": width,
        "rnn.layers.1": width,
    }
    torch.testing.assert_close(output(whole, IDS), output(model, IDS), atol=1e-5, rtol=0)


def test_a_file_of_a_smaller_layer_over_packed_sequences_gives_what_the_module_gives(from_file: Any):
    model = OverPacked(nn.LSTM, 2, False, False).eval()
    prunable(model, IDS)
    remove_units(model, IDS, {"rnn.layers.0": [1, 4], "rnn.layers.1": [0]})
    torch.testing.assert_close(from_file(model, IDS), output(model, IDS), atol=1e-5, rtol=1e-4)


class Steps(nn.Module):
    """(N, T, 5) -> (N, 3), two cells after each other, called step by step. start: whether they are given a first
    state, of a size that is written.
    """

    def __init__(self, kind: Any, start: bool = True) -> None:
        super().__init__()
        self.one, self.two = kind(INPUTS, HIDDEN), kind(HIDDEN, HIDDEN)
        self.start, self.both, self.head = start, kind is nn.LSTMCell, nn.Linear(HIDDEN, 3)

    def forward(self, x: Tensor) -> Tensor:
        zeros = x.new_zeros(len(x), HIDDEN) if self.start else None
        one = two = (zeros, zeros) if self.both and self.start else zeros
        given = []
        for step in range(x.shape[1]):
            one = self.one(x[:, step], one)
            two = self.two(one[0] if self.both else one, two)
            given.append(two[0] if self.both else two)
        return self.head(torch.stack(given, 1).mean(1))


CELLS = pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])


@CELLS
@pytest.mark.parametrize("start", [True, False])
def test_cells_of_the_models_own_loop_lose_units_as_if_what_reads_them_were_zero(kind: Any, start: bool):
    model, x = Steps(kind, start).eval(), torch.randn(3, STEPS, INPUTS)
    whole, found = ChannelGraph().find_groups(model, x, frozenset({RECURRENT}))
    assert {group.root: group.size for group in found.groups} == {"one": HIDDEN, "two": HIDDEN}
    torch.testing.assert_close(output(whole, x), output(model, x), atol=0, rtol=0)
    smaller = remove_units(whole, x, {"one": [0, 3], "two": [5]})
    with torch.no_grad():
        for weight, gone in ((model.one.weight_hh, [0, 3]), (model.two.weight_ih, [0, 3]), (model.two.weight_hh, [5])):
            weight[:, gone] = 0
        model.head.weight[:, [5]] = 0
    torch.testing.assert_close(output(smaller, x), output(model, x), atol=1e-5, rtol=0)
    assert (smaller.one.hidden_size, smaller.two.input_size, smaller.two.hidden_size) == (4, 4, 5)
    again = remove_units(smaller, x, {"one": [1]})
    assert again.one.left == [1, 4, 5]
    assert output(again, x).shape == (3, 3)


class Projected(nn.Module):
    """(N, T, 5) -> (N, 3)."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.rnn = nn.LSTM(INPUTS, HIDDEN, proj_size=4, batch_first=True, **options)
        self.head = nn.Linear(4 * (1 + self.rnn.bidirectional), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(1))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@DIRECTIONS
def test_an_lstm_with_projections_loses_units_and_projected_ones(bidirectional: bool):
    model, x = plain_copy(Projected(num_layers=2, bidirectional=bidirectional)), torch.randn(3, STEPS, INPUTS)
    found = ChannelGraph().find_groups(model, x)[1]  # removing half of them was compared with zeroing
    ways = 2 if bidirectional else 1
    sizes = {f"rnn.layers.{n}.layers.0": (RECURRENT, ways * HIDDEN) for n in range(2)}
    sizes |= {f"rnn.projections.{n}": (CHANNELS, 4 * ways) for n in range(2)}
    assert {group.root: (group.kind, group.size) for group in found.groups} == sizes

"""Which recurrent layers can go, and what is no block; what stays when they go computes what it did."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress_plugins.fitting_parts import FittingParts
from autocompress_plugins.model_runs import output
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.blocks import droppable
from autocompress_plugins.shrinking.prunable import prunable

WORDS = torch.randint(0, 9, (64, 7), generator=torch.Generator().manual_seed(5))


class Stack(nn.Module):
    """A recurrent stack over words, of 8 features each."""

    def __init__(self, kind: type[nn.RNNBase], width: int, layers: int, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.rnn = kind(8, width, layers, **options)
        self.head = nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0].mean(1 if self.rnn.batch_first else 0))


KINDS = [
    (nn.LSTM, {"batch_first": True}),
    (nn.LSTM, {"batch_first": True, "bidirectional": True, "proj_size": 3}),
    (nn.GRU, {"batch_first": True, "bidirectional": True, "bias": False}),
    (nn.RNN, {"batch_first": True, "nonlinearity": "relu", "dropout": 0.1}),
]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_recurrent_layers_but_the_first_can_go(kind: type[nn.RNNBase], options: dict[str, Any]):
    model = Stack(kind, 5, 3, **options).eval()
    output(model, WORDS)
    assert droppable(model, WORDS[:2]).names == ("rnn:1", "rnn:2")


class Chain(nn.Module):
    """Recurrent modules of one layer each; the second gives back the shape it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.layers = nn.ModuleList([nn.GRU(8, 5, batch_first=True), nn.GRU(5, 5, batch_first=True)])
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x.mean(1))


def test_a_recurrent_module_of_one_layer_can_go_as_a_whole():
    assert droppable(Chain().eval(), WORDS[:2]) == FittingParts(("layers.1:0",), {})


class Stateful(nn.Module):
    """The number of layers is written into its code."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 5, 2, batch_first=True)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[1].transpose(0, 1).reshape(len(x), 10))


def test_layers_that_the_model_counts_on_are_left_alone_with_the_reason():
    found = droppable(Stateful().eval(), torch.randn(2, 6, 5))
    assert found.names == ()
    assert "breaks without it" in found.kept["rnn:1"]


def test_module_that_holds_the_whole_network_is_no_block():
    whole = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
    assert droppable(nn.Sequential(whole, nn.Softmax(1)).eval(), torch.randn(2, 6)) == FittingParts((), {})


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_shorter_stack_computes_what_the_remaining_layers_do(kind: type[nn.RNNBase], options: dict[str, Any]):
    model = Stack(kind, 5, 4, **options).eval()
    output(model, WORDS)
    state = torch.get_rng_state()
    shorter = without(copy.deepcopy(model), ["rnn:1"])
    assert torch.equal(torch.get_rng_state(), state)
    assert type(shorter.rnn) is kind
    assert shorter.rnn.num_layers == 3
    x = model.embed(WORDS)
    for layer in (0, 2, 3):
        width = (options.get("proj_size") or 5) * (2 if options.get("bidirectional") else 1)
        one = kind(8 if layer == 0 else width, 5, 1, **{**options, "dropout": 0.0}).eval()
        weights = {k: v for k, v in model.rnn.state_dict().items() if f"_l{layer}" in k}
        one.load_state_dict({k.replace(f"_l{layer}", "_l0"): v for k, v in weights.items()})
        x = one(x)[0]
    with torch.no_grad():
        assert torch.allclose(shorter.rnn(model.embed(WORDS))[0], x, atol=1e-6)


def test_layers_that_units_were_pruned_from_can_go_where_the_widths_agree():
    model = Stack(nn.LSTM, 6, 3, batch_first=True, bidirectional=True).eval()
    output(model, WORDS)
    assert prunable(model, WORDS[:2]) == {}
    model.rnn.layers[1].remove_outputs([0, 6])
    model.rnn.layers[2].remove_inputs([0, 6])
    assert droppable(model, WORDS[:2]).names == ()
    model.rnn.layers[2].remove_outputs([1, 7])
    model.head.weight.data = model.head.weight.data[:, :10]
    model.head.in_features = 10
    assert droppable(model, WORDS[:2]).names == ("rnn:2",)
    bare = without(copy.deepcopy(model), ["rnn:2"])
    first, second, _ = model.rnn.layers
    expected = model.head(second(first(model.embed(WORDS))[0])[0].mean(1))
    torch.testing.assert_close(output(bare, WORDS), expected.detach())


def test_last_layer_left_has_no_dropout_and_no_warning(recwarn: pytest.WarningsRecorder):
    model = Stack(nn.LSTM, 5, 2, dropout=0.3).eval()
    recwarn.clear()
    assert without(model, ["rnn:1"]).rnn.dropout == 0
    assert not recwarn.list


def test_a_recurrent_module_of_one_layer_goes_as_a_whole():
    model = Chain().eval()
    bare = without(copy.deepcopy(model), ["layers.1:0"])
    expected = model.head(model.layers[0](model.embed(WORDS))[0].mean(1))
    torch.testing.assert_close(output(bare, WORDS), expected.detach())

"""Exchanging layers for ones that can shrink: nothing else changes, and what would change stays."""

from typing import Any

import torch
from torch import Tensor, nn

from autocompress_plugins.shrinking.attention_layers import MultiheadSelfAttention
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.recurrent_layers import RecurrentBarrier, RecurrentStack

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


class InTurn(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = (layer(x, x, x) if isinstance(layer, (nn.MultiheadAttention, MultiheadSelfAttention)) else layer(x))[0]
        return x


def gru() -> nn.GRU:
    return nn.GRU(8, 8, batch_first=True)


def test_the_output_stays_and_a_second_time_nothing_happens():
    model = InTurn(gru(), nn.MultiheadAttention(8, 2, batch_first=True)).eval()
    with torch.no_grad():
        before = model(X)
        assert prunable(model, X) == {}
        layers = list(model.layers)
        assert [type(layer) for layer in layers] == [RecurrentStack, MultiheadSelfAttention]
        torch.testing.assert_close(model(X), before, atol=1e-5, rtol=1e-4)
    assert prunable(model, X) == {}
    assert list(model.layers) == layers


def test_a_layer_that_is_held_twice_is_exchanged_in_both_places():
    layer = gru()
    model = InTurn(layer, layer)
    assert prunable(model, X) == {}
    assert isinstance(model.layers[0], RecurrentStack)
    assert model.layers[0] is model.layers[1]


def test_layers_that_share_weights_stay():
    one, other = gru(), gru()
    other.weight_hh_l0 = one.weight_hh_l0
    model = InTurn(one, other)
    assert prunable(model, X) == dict.fromkeys(["layers.0", "layers.1"], "it shares weights with another layer")
    assert isinstance(model.layers[0], RecurrentBarrier)
    assert model.layers[0].core is one
    assert model.layers[0].weight_hh_l0 is model.layers[1].weight_hh_l0


class Doubled(nn.MultiheadAttention):
    def forward(self, *given: Any, **named: Any) -> Any:
        y, weights = super().forward(*given, **named)
        return 2 * y, weights


def test_a_layer_that_computes_something_of_its_own_stays():
    model = InTurn(Doubled(8, 2, batch_first=True))
    own = model.layers[0]
    assert prunable(model, X) == {"layers.0": "a form of it that can shrink gives other outputs"}
    assert model.layers[0] is own


def test_a_model_that_reads_the_layer_keeps_it():
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = gru()

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][..., : self.rnn.hidden_size]

    model = Reads()
    (reason,) = prunable(model, X).values()
    assert reason.startswith("a form of it that can shrink breaks the model (AttributeError: ")
    assert isinstance(model.rnn, RecurrentBarrier)
    assert model(X).shape == (2, 5, 8)


class Four(nn.Module):
    """The layers of an attention, and none: one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_only_what_is_given_a_sequence_may_be_an_attention():
    assert prunable(Four(), X[:, 0]) == {}
    (reason,) = prunable(Four(), X).values()
    assert "do not read as" in reason

"""Removing hidden units: sizes as asked, of each layer and direction, the least important ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.plugin.contract import Context
from autocompress.task import Inputs
from autocompress_plugins.pruning.prune_recurrent import PruneRecurrent

MakeContext = Callable[..., Context]


def planned(context: Context, **chosen: Any) -> dict[str, Any]:
    params = {p.name: p.default for p in PruneRecurrent().parameters(context)} | chosen
    return dict(PruneRecurrent().plan(context.task.copy_of_model(), params, context))


def pruned(context: Context, **chosen: Any) -> nn.Module:
    return PruneRecurrent().apply(context.task.copy_of_model(), planned(context, **chosen), context).eval()


def sizes(model: nn.Module) -> list[int]:
    return [layer.core.hidden_size for layer in model.rnn.layers]


@pytest.mark.parametrize("ratio", [0.25, 0.75])
def test_the_sizes_are_as_asked(ratio: float, lstm: Context):
    model = pruned(lstm, ratio=ratio, round_to=1)
    assert sizes(model) == [24 * (1 - ratio)] * 2
    assert model.head.in_features == 2 * 24 * (1 - ratio)
    assert model.rnn.layers[1].core.input_size == 2 * 24 * (1 - ratio)


@pytest.mark.parametrize("round_to", [8, 4])
def test_sizes_are_multiples_of_round_to(round_to: int, lstm: Context):
    first, second = sizes(pruned(lstm, ratio=0.4, round_to=round_to, allocation="global"))
    assert (first % 4, second % 4) == (0, 0), "a quarter of the layer is 6"
    assert first + second < 48


def test_it_is_the_users_layer_with_the_units_unread(lstm: Context):
    """To the recurrence, the next layer and the head."""
    plan, original = planned(lstm)["remove"], lstm.task.copy_of_model()
    smaller = PruneRecurrent().apply(lstm.task.copy_of_model(), {"remove": plan}, lstm)
    with torch.no_grad():
        for number in range(2):
            gone = plan[f"rnn.layers.{number}"]
            for d, suffix in enumerate(("", "_reverse")):
                own = [unit - 24 * d for unit in gone if unit // 24 == d]
                original.rnn.get_parameter(f"weight_hh_l{number}{suffix}")[:, own] = 0
                assert len(own) == 12
            readers = (
                (original.rnn.weight_ih_l1, original.rnn.weight_ih_l1_reverse)
                if number == 0
                else (original.head.weight,)
            )
            for weight in readers:
                weight[:, gone] = 0
        x = lstm.train.take(torch.arange(8)).inputs
        torch.testing.assert_close(smaller.eval()(x), original(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "batch_first"), [(nn.LSTM, False), (nn.GRU, True), (nn.RNN, False)])
def test_the_file_agrees_with_the_module(
    kind: Any, batch_first: bool, make_context: MakeContext, from_file: Callable[[nn.Module, Inputs], Tensor]
):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = kind(6, 16, 2, batch_first=batch_first, bidirectional=True), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            _, states = self.rnn(x if batch_first else x.transpose(0, 1))
            last = states[0] if kind is nn.LSTM else states
            return self.head(torch.cat([last[-2], last[-1]], 1))

    context = make_context(Net(), torch.randn(16, 7, 6))
    model = pruned(context, ratio=0.5)
    assert sizes(model) == [8, 8]
    with torch.no_grad():
        expected = model(context.example_inputs)
    torch.testing.assert_close(from_file(model, context.example_inputs), expected, atol=1e-4, rtol=1e-3)


def test_the_embedding_before_it_keeps_its_width(make_context: MakeContext):
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.head = nn.Embedding(9, 8), nn.GRU(8, 16, batch_first=True), nn.Linear(16, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.rnn(self.embed(tokens))[1][-1])

    model = pruned(make_context(Words(), torch.randint(9, (16, 5))))
    assert (model.embed.embedding_dim, sizes(model)) == (8, [8])


# -- refusals ----------------------------------------------------------------------------------------------------------


class Given(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(x, x.new_zeros(1, len(x), 8))[0].mean(1))


class Summed(nn.Module):
    """The directions are added: a unit of one goes with a unit of the other, and the code fixes how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(6, 8, batch_first=True, bidirectional=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(x)[0]
        return self.head((y[..., :8] + y[..., 8:]).mean(1))


@pytest.mark.parametrize(
    ("make", "layer", "reason"),
    [(Given, "decoder", "initial state"), (Summed, "rnn.layers.0", "breaks the model")],
)
def test_refused_with_the_layer_and_the_reason(make: Any, layer: str, reason: str, make_context: MakeContext):
    text = PruneRecurrent().refuses(make_context(make(), torch.randn(8, 5, 6)))
    assert text is not None
    assert text.startswith(f"no recurrent layer has units that can be removed ({layer}: ")
    assert reason in text


def test_a_layer_that_is_given_its_state_is_named_though_another_can_shrink(make_context: MakeContext):
    class Both(Given):
        def __init__(self) -> None:
            super().__init__()
            self.beside, self.last = nn.GRU(6, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.last(self.beside(x)[0].mean(1))

    context = make_context(Both(), torch.randn(8, 5, 6))
    assert PruneRecurrent().refuses(context) is None
    ((name, reason),) = PruneRecurrent().left_alone(context).items()
    assert name == "decoder"
    assert "initial state" in reason

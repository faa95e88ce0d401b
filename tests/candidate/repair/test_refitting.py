"""One layer refitted: nothing where it gives what it gave, and of a recurrent one only by the states that count."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from autocompress.candidate.repair import refitting
from autocompress.candidate.repair.original import GaveRows, run_original
from autocompress.candidate.repair.recurrent_rows import GaveStates, states_of
from autocompress.candidate.repair.refitting import refit_matrix, refit_recurrent
from autocompress.candidate.repair.rows import input_rows, output_rows
from autocompress.errors import CandidateFailed

N = 40


@pytest.mark.parametrize("seed", range(8))
def test_a_layer_that_reads_what_it_read_is_not_fitted(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what it reads lies far from zero, and sums of squares say little of small differences."""
    monkeypatch.setattr(refitting, "refit", lambda *_, **__: pytest.fail("it was fitted"))
    torch.manual_seed(seed)
    layer, x = nn.Linear(20, 7), torch.randn(N, 25, 20) + seed
    before = copy.deepcopy(layer)
    with torch.no_grad():
        gave = GaveRows(*output_rows(layer, layer(x), N))
    read = input_rows(layer, x, N, gave.places)
    assert list(refit_matrix("it", [layer], [read], [gave], torch.arange(7), normed=False)) == []
    assert torch.equal(layer.weight, before.weight)
    assert layer.bias is not None
    assert torch.equal(layer.bias, before.bias)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_of_both_directions_the_state_that_nothing_follows_is_left_out(kind: type[nn.RNNBase]) -> None:
    """The backward direction ends at the first step, the forward one at the last: what they are there is not read."""
    original, x = kind(5, 6, batch_first=True, bidirectional=True), torch.randn(N, 9, 5)
    with torch.no_grad():
        states = original(x)[0]
        for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
            getattr(original, name)[:, 5] = getattr(original, name)[:, 4]
    states[..., 5], states[..., 11] = states[..., 4], states[..., 10]
    states[:, -1, :6] = float("nan")
    states[:, 0, 6:] = float("nan")
    layer = kind(5, 5, batch_first=True, bidirectional=True)
    gates = original.weight_hh_l0.shape[0] // 6
    kept = (torch.arange(gates)[:, None] * 6 + torch.arange(5)).flatten()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            whole = getattr(original, name)[kept]
            parameter.copy_(whole[:, :5] if name.startswith("weight_hh") else whole)
    outputs = torch.tensor([unit for unit in range(12) if unit not in (5, 11)])
    gave = states_of(original, [x], {}, (states, None), N)
    fits = list(refit_recurrent("it", layer, original, [x], [gave], outputs))
    assert [fit.part for fit in fits] == ["weight_hh", "weight_hh_reverse"], "what is read in is what was"
    for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
        wanted = getattr(original, name).detach()[kept][:, :5].clone()
        wanted[:, 4] *= 2
        torch.testing.assert_close(getattr(layer, name).detach(), wanted, atol=0.02, rtol=0.02)


def test_a_sequence_of_another_length_fails() -> None:
    layer = nn.GRU(5, 6, batch_first=True)
    x = torch.randn(N, 9, 5)
    gave = states_of(layer, [x], {}, (layer(x)[0].detach(), None), N)
    with pytest.raises(CandidateFailed, match="it reads \\(40, 7\\) examples and places"):
        list(refit_recurrent("it", layer, copy.deepcopy(layer), [x[:, :7]], [gave], torch.arange(6)))


class Packed(nn.Module):
    """Gives a recurrent layer sequences of two lengths, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lengths = 5 + 4 * (torch.arange(len(x)) % 2)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1][0]

    def states(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.rnn(x.transpose(0, 1))[0].transpose(0, 1)


def test_of_a_packed_sequence_the_places_behind_its_end_do_not_count() -> None:
    x = torch.randn(N, 9, 5)
    model = Packed()
    run = run_original(model, x, N)
    (gave,) = run.every_call("rnn")
    assert isinstance(gave, GaveStates)
    assert torch.equal(gave.inputs[1::2], x[1::2])
    assert gave.valid.sum(1).tolist() == [5, 9] * (N // 2)
    assert gave.began_valid.sum(1).tolist() == [4, 8] * (N // 2)
    wanted = model.states(x)
    torch.testing.assert_close(gave.began[0][1::2], wanted[1::2, :-1])
    torch.testing.assert_close(gave.began[0][::2, :4], wanted[::2, :4])
    layer = nn.GRU(5, 6)
    original, behind, every = copy.deepcopy(layer), ~gave.valid[..., None], torch.arange(6)
    now = x + 1
    fits = [
        list(refit_recurrent("it", copy.deepcopy(layer), original, [read], [replace(gave, inputs=was)], every))
        for read, was in ((now, gave.inputs), (now.masked_fill(behind, 9.0), gave.inputs.masked_fill(behind, -5.0)))
    ]
    assert fits[0] == fits[1], "whatever stands there"
    assert [(fit.part, fit.rows) for fit in fits[0]] == [("weight_ih", (N - N // 4) // 3 * (2 * 5 + 9))]


class Masked(nn.Module):
    """Texts of several lengths, as tokenizers pad them: (N, T, 5) and a mask (N, T) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        wide = self.first(x) * attention_mask[..., None]
        return self.head(wide.sum(1) / attention_mask.sum(1, keepdim=True))


@pytest.mark.parametrize("end", [slice(6, None), slice(0, 4)], ids=["right", "left"])
def test_places_that_a_mask_calls_padding_are_no_rows(end: slice) -> None:
    mask = torch.ones(N, 10, dtype=torch.int64)
    mask[::2, end] = 0
    x, model = torch.randn(N, 10, 5), Masked()
    (gave,) = run_original(model, {"x": x, "attention_mask": mask}, N).every_call("first")
    (head,) = run_original(model, {"x": x, "attention_mask": mask}, N).every_call("head")
    assert isinstance(gave, GaveRows)
    assert isinstance(head, GaveRows)
    assert gave.places.counting is not None
    assert torch.equal(gave.places.counting, mask.bool())
    assert head.places.counting is None
    layer, every = nn.Linear(5, 6), torch.arange(6)
    layers = [copy.deepcopy(layer), copy.deepcopy(layer)]
    fits = [
        list(refit_matrix("it", [own], [input_rows(own, read, N, gave.places)], [gave], every, normed=False))
        for own, read in zip(layers, (x, x.masked_fill(~mask.bool()[..., None], 1e3)), strict=True)
    ]
    assert fits[0] == fits[1], "whatever stands there"
    assert fits[0][0].rows == int(mask[torch.arange(N) % 4 != 3].sum())
    torch.testing.assert_close(layers[0].weight, model.first.weight, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("value", [2, 0], ids=["other numbers", "ones for padding"])
def test_a_mask_that_says_something_else_says_nothing_of_padding(value: int) -> None:
    mask = torch.ones(N, 10, dtype=torch.int64)
    mask[::2, 6:] = value
    mask[1::2, :4] = value
    x = torch.randn(N, 10, 5)
    (gave,) = run_original(Masked(), {"x": x, "attention_mask": mask}, N).every_call("first")
    assert isinstance(gave, GaveRows)
    assert gave.places.counting is None

"""Where in the code a module is called."""

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.places import places_of
from autocompress.plain_model import plain_copy

HERE = Path(__file__).resolve()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.unread = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.inner(y) + x


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Block(), Block())
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def line_of(kind: type, text: str) -> str:
    lines, first = inspect.getsourcelines(kind)
    (at,) = (number for number, line in enumerate(lines, first) if text in line)
    return f"{HERE.name}:{at}"


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("body.0.first", Block, "y = self.first"),
        ("body.1.inner", Block, "return self.inner"),
        ("body.1.inner.0", Block, "return self.inner"),
        ("body.0", Whole, "return self.head"),
        ("head", Whole, "return self.head"),
        ("body.0.unread", Block, "class Block"),
        ("", Whole, "class Whole"),
    ],
)
def test_a_module_is_called_by_the_innermost_line_that_is_not_of_torch(
    name: str, kind: type, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE.parent)
    assert places_of(Whole(), [name, "no module"], torch.zeros(1, 4)) == {name: line_of(kind, text)}


class Projected(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 6, proj_size=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


def test_what_an_lstm_with_projections_is_taken_as_is_called_by_the_users_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE.parent)
    found = places_of(plain_copy(Projected()), ["rnn.layers.0"], torch.zeros(1, 4))
    assert found == {"rnn.layers.0": line_of(Projected, "return self.rnn")}


def test_a_model_of_torchs_modules_alone_has_no_place() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert places_of(model, ["0"], torch.zeros(1, 4)) == {}
    assert not model[0]._forward_pre_hooks


def test_of_a_model_that_does_not_run_the_classes_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE.parent)
    found = places_of(Whole(), ["body.1.first"], torch.zeros(1, 3))
    assert found == {"body.1.first": line_of(Block, "class Block")}

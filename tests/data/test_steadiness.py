"""A model that draws numbers or remembers earlier calls is refused with the layer by which it does."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.data import read_data
from autocompress.data.steadiness import refuse_unsteady
from autocompress.errors import UsageError
from autocompress.task import Task


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5)


class Running(nn.Module):
    """Subtracts a mean of all that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * x.mean(0)
        return x - self.mean


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(6, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) * self.calls


class EveryThird(nn.Module):
    """Answers otherwise after every third call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(6, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x) + self.calls // 3


class Drawing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.randn(x.shape))


class ByItsBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x - x.mean(0))


def around(inside: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), inside), nn.Linear(8, 2))


def read(model: nn.Module) -> tuple[str, ...]:
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    data = inputs, (inputs[:, 0] > 0).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    return read_data(Task("it", model, data, data)).warnings


@pytest.mark.parametrize(
    ("model", "layer"),
    [(around(Noisy()), r"1\.1 \(Noisy\)"), (Drawing(), "the forward of Drawing itself")],
)
def test_by_chance(model: nn.Module, layer: str) -> None:
    with pytest.raises(UsageError, match=rf"answers by chance: .*again, {layer} gives something else; draw nothing in"):
        read(model)


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (around(Running()), r"1\.1 \(Running\)"),
        (Counting(), "the forward of Counting itself"),
        (EveryThird(), "the forward of EveryThird itself"),
    ],
)
def test_by_what_was_asked_before(model: nn.Module, layer: str) -> None:
    with pytest.raises(UsageError, match=rf"depends on what it was asked before: .*, {layer} gives .*; begin anew"):
        read(model)


def test_by_the_others_of_its_batch_is_taken_and_said() -> None:
    assert any("depends on the others in its batch" in said for said in read(ByItsBatch()))


def test_what_draws_in_training_alone_is_taken() -> None:
    assert not any("chance" in said for said in read(around(nn.Dropout(0.5))))


def test_a_layer_that_often_draws_the_same_is_named():
    class Sometimes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + (torch.rand(()) < 0.5)

    model, x = nn.Sequential(nn.Linear(6, 1), Sometimes()).eval(), torch.zeros(3, 6)
    with torch.no_grad():
        answered = model[0](x) + 2  # what it does not answer again
    for seed in range(6):
        torch.manual_seed(seed)
        with pytest.raises(UsageError, match=r"asked the same again, 1 \(Sometimes\) gives something else"):
            refuse_unsteady(model, x, answered)

"""Modules that run in training mode alone are found, and looking for them leaves the model as it was."""

import copy

import pytest
import torch
from torch import Tensor, nn

from autocompress.data import computing_as_in_training, run_in_training_alone

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))


class WithAuxiliaryHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout())
        self.head, self.aux = nn.Linear(8, 3), nn.Sequential(nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.trunk(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


class WantsTargets(WithAuxiliaryHead):
    def forward(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        assert not self.training or targets is not None
        return self.head(self.trunk(x))


class RunsLessInTraining(WithAuxiliaryHead):
    def forward(self, x: Tensor) -> Tensor:
        return self.aux(self.trunk(x)) if self.training else self.head(self.trunk(x))


def test_the_outermost_module_is_named_and_the_model_stays_as_it_is() -> None:
    model = WithAuxiliaryHead()
    model.aux.eval()
    before, modes, state = (
        copy.deepcopy(model.state_dict()),
        [m.training for m in model.modules()],
        torch.get_rng_state(),
    )
    assert run_in_training_alone(model, X) == ("aux",)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("model", [nn.Linear(6, 3), WantsTargets(), RunsLessInTraining()])
def test_none_where_training_mode_shows_no_more(model: nn.Module) -> None:
    assert run_in_training_alone(model, X) == ()


def test_what_is_computed_as_in_training_is_what_an_evaluation_gives() -> None:
    model = WithAuxiliaryHead().eval()
    with torch.no_grad(), computing_as_in_training(model):
        outputs, _ = model(X)
    assert torch.equal(outputs, model(X))

"""A model is run and watched, and is afterwards what it was."""

import pytest
import torch
from torch import Tensor, nn

from autocompress_plugins.model_runs import inner_outputs, output, same_output, watched

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))


class Named(nn.Module):
    """Calls its layer by name, and gives more than the tensor that is scored."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(4, 2), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return self.drop(self.layer(input=x)), "more"


def test_the_output_is_that_of_evaluation_without_gradients():
    model = Named().train()
    got = output(model, {"x": X})
    assert torch.equal(got, model.layer(X))
    assert not got.requires_grad


def test_modules_are_seen_with_all_that_they_are_given_and_give():
    model, calls = Named(), []
    with watched([("own", model.layer)], lambda *call: calls.append(call)):
        output(model, X)
    output(model, X)
    ((name, module, given, gave),) = calls
    assert (name, module, len(given)) == ("own", model.layer, 1)
    assert given[0] is X
    assert torch.equal(gave, model.layer(X))


def test_nothing_watches_after_an_error():
    layer, calls = nn.Linear(4, 2), []
    with pytest.raises(ZeroDivisionError), watched([("", layer)], lambda *call: calls.append(call)):
        raise ZeroDivisionError
    layer(X)
    assert calls == []


def test_what_named_modules_give():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), Named())
    model[2].layer = nn.Linear(3, 2)
    found = inner_outputs(model, X, ["2", "0"])
    assert torch.equal(found["0"], model[0](X))
    assert torch.equal(found["2"], output(model, X)), "of a tuple the first tensor"


def test_outputs_are_the_same_to_a_ten_thousandth_of_their_range():
    wide = torch.tensor([0.0, 100.0])
    assert same_output(wide + 0.009, wide)
    assert not same_output(wide + 0.011, wide)
    assert not same_output(wide[:1], wide), "another shape"
    assert not same_output(torch.full((2,), 1e-9), torch.ones(2))

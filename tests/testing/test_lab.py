"""What the kit compares of a model: this tells when torch keeps hooks elsewhere."""

from collections.abc import Callable

import pytest
from torch import nn

from autocompress.testing.lab import Form


@pytest.mark.parametrize(
    "hang",
    [
        lambda module: module.register_forward_hook(lambda *_: None),
        lambda module: module.register_forward_pre_hook(lambda *_: None),
        lambda module: setattr(module, "forward", module.forward),
    ],
    ids=["forward_hook", "forward_pre_hook", "forward"],
)
def test_what_is_hung_onto_a_module_is_seen_in_the_form_of_its_model(hang: Callable[[nn.Module], object]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    before = Form.of(model)
    assert Form.of(model) == before
    hang(model[1])
    assert Form.of(model) != before

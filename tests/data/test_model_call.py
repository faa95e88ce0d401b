"""How the user's model is called, and which of what it returns is scored."""

import pytest
import torch
from torch import Tensor

from autocompress.data import call
from autocompress.errors import UsageError
from autocompress.nested import primary

X = torch.randn(130, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(130) % 4


def test_model_is_called_by_position_or_by_name():
    def model(a: Tensor, b: Tensor) -> Tensor:
        return a - b

    one, two = torch.tensor(3.0), torch.tensor(1.0)
    assert call(model, (one, two)) == 2
    assert call(model, {"b": one, "a": two}) == -2


def test_scored_tensor_is_found_in_what_models_return():
    class Output:
        logits = X

    nested = {"hidden": Y, "logits": (X, Y)}
    assert all(primary(output) is X for output in (X, (X, Y), [X], Output(), {"scores": X}, nested))
    for output in (None, (), {}, "text"):
        with pytest.raises(UsageError, match="the model returns"):
            primary(output)

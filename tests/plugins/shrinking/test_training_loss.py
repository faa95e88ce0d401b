"""How much of the time there is goes into measuring losses."""

import pytest

from autocompress_plugins.shrinking import training_loss


@pytest.mark.parametrize(("seconds_each", "examples"), [(1e-4, 256), (0.01, 64), (0.03, 16), (1.0, 0)])
def test_the_slower_a_model_the_fewer_examples_its_loss_is_measured_on(seconds_each: float, examples: int):
    assert training_loss.affordable(seconds_each, evaluations=10) == examples

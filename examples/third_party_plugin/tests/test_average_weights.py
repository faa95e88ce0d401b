"""What autocompress asks of every strategy, and that the average is one."""

import pytest
import torch
from autocompress_average_weights.strategy import AverageWeights, MovingAverage
from torch import nn

from autocompress.testing import StrategyConformance


class TestAverageWeights(StrategyConformance):
    strategy = AverageWeights()


def test_the_weights_left_are_the_average_over_the_steps() -> None:
    model = nn.Linear(1, 1, bias=False)
    hook = MovingAverage(decay=0.2)  # below the growing decay after a few steps
    expected = 0.0
    nn.init.zeros_(model.weight)
    hook.wrap(model)
    for step in range(1, 21):
        nn.init.constant_(model.weight, float(step))
        hook.after_step(model, step / 20)
        decay = min(0.2, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert model.weight.item() == 20.0
    hook.unwrap(model)
    assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert expected < 20


def test_pruned_weights_stay_zero() -> None:
    model = nn.Linear(2, 1, bias=False)
    hook = MovingAverage(decay=0.5)
    hook.wrap(model)
    with torch.no_grad():
        model.weight[0, 1] = 0
    hook.after_step(model, 0.5)
    hook.unwrap(model)
    assert float(model.weight[0, 0]) != 0
    assert float(model.weight[0, 1]) == 0


def test_batch_norms_statistics_are_averaged_and_its_counter_is_not() -> None:
    model = nn.BatchNorm1d(2)
    hook = MovingAverage(decay=0.5)
    hook.wrap(model)
    with torch.no_grad():
        model.running_mean += 8
        model.num_batches_tracked += 8
    for _ in range(3):
        hook.after_step(model, 0.5)
    hook.unwrap(model)
    assert 0 < float(model.running_mean[0]) < 8
    assert int(model.num_batches_tracked) == 8

"""Weight averaging: an exponential moving average over the training steps replaces the last weights.

Changes: the weights and the statistics of batch norm, at the end of a training. Needs: nothing. Follows: Polyak &
Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the growing decay is that of TensorFlow's
ExponentialMovingAverage.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autocompress.plugin.contract import Context, Parameter, Params, Strategy, TrainHook, TrainingStrategy
from autocompress.plugin.hooks import hookimpl

autocompress_api = 2


class MovingAverage(TrainHook):
    """Averages the tensors it finds at ``wrap``, whatever other hooks put around them later."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._steps = 0
        self._live: list[Tensor] = []
        self._mean: list[Tensor] = []

    def wrap(self, model: nn.Module) -> nn.Module:
        self._live = [t for t in model.state_dict(keep_vars=True).values() if t.is_floating_point()]
        self._mean = [t.detach().clone() for t in self._live]
        return model

    def after_step(self, model: nn.Module, progress: float) -> None:
        self._steps += 1
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))  # soon forgets the weights it began with
        for mean, live in zip(self._mean, self._live, strict=True):
            mean.lerp_(live.detach(), 1 - decay)

    def unwrap(self, model: nn.Module) -> nn.Module:
        with torch.no_grad():
            for mean, live in zip(self._mean, self._live, strict=True):
                live.copy_(mean * (live != 0))  # what another strategy holds at zero stays there
        return model


class AverageWeights(TrainingStrategy):
    name = "average_weights"
    summary = "export the moving average of the weights instead of the last ones"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (Parameter("decay", (0.9, 0.97, 0.99, 0.997), 0.97),)

    def hook(self, params: Params, context: Context) -> TrainHook:
        return MovingAverage(float(params["decay"]))


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [AverageWeights()]

"""Feature distillation: inner layers of the student are drawn to the reference's, through adapters learned beside it.

Changes: the weights. Needs: inner layers with one name and, beside their channels, one output size in both models.
Follows: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015: squared error between the reference's channels
and a linear map of the student's, here at a few layers, all at once or one after the other from the bottom up. The
reference's channels are standardised first, so that a loss of 1 says that nothing of what they tell is known.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autocompress.plugin.contract import Context, LossTerm, Parameter, Params, Strategy, TrainHook, TrainStep
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.distillation.distillation import InnerDistillation, InnerHook
from autocompress_plugins.distillation.layer_pairs import LayerPair
from autocompress_plugins.model_runs import inner_outputs

autocompress_api = 2

BOTTOM_UP_UNTIL = 0.5  # the layers share this part of the training equally; the rest is for the outputs alone
STATISTICS_EXAMPLES = 64
LEAST_SPREAD = 0.1  # of the layer's: a channel that is nearly always silent would count too much


class Hint(nn.Module):
    """The loss at one layer. known: what the reference's layer gives for some examples."""

    def __init__(self, pair: LayerPair, known: Tensor) -> None:
        super().__init__()
        self._axis = pair.axis
        self.adapter = nn.Linear(pair.student, pair.teacher)  # for maps the same as a 1x1 convolution
        rows = self._rows(known)
        self._mean, spread = rows.mean(0), rows.std(0, correction=0)
        self._spread = spread.clamp(min=float(LEAST_SPREAD * spread.mean()) or 1.0)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar: the mean squared error, of standardised channels."""
        known = (self._rows(teacher) - self._mean.to(teacher.device)) / self._spread.to(teacher.device)
        return F.mse_loss(self.adapter(self._rows(student)), known)

    def _rows(self, features: Tensor) -> Tensor:
        """(N, ..., channels, ...) -> (N * ..., channels)"""
        return features.movedim(self._axis, -1).flatten(0, -2)


class Hints(InnerHook):
    def __init__(self, weight: float, bottom_up: bool, context: Context) -> None:
        super().__init__(weight, context)
        self._bottom_up = bottom_up
        self._hints: list[Hint] = []
        self._taught = False  # from the bottom up, in an earlier training: what is left is for the outputs alone

    def resume(self, learned: Mapping[str, Any]) -> None:
        self._taught = self._bottom_up

    def learned(self) -> Mapping[str, Any]:
        return {"layers": list(self.layers)}

    def wrap(self, model: nn.Module) -> nn.Module:
        if self._taught:
            return model
        model = super().wrap(model)
        batch = next(self._context.train_batches(STATISTICS_EXAMPLES))
        known = inner_outputs(self._context.model, batch.inputs, self.layers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._context.seed)
            self._hints = [Hint(pair, known[pair.name]) for pair in self._pairs]
        return model

    def parameters(self) -> Iterable[nn.Parameter]:
        return nn.ModuleList(self._hints).parameters()

    def loss(self, step: TrainStep) -> LossTerm | None:
        values = [
            hint(step.features[name], step.teacher_features[name])
            for number, (name, hint) in enumerate(zip(self.layers, self._hints, strict=True))
            if not self._bottom_up or number == int(step.progress / BOTTOM_UP_UNTIL * len(self.layers))
        ]
        return LossTerm(torch.stack(values).mean(), self._weight) if values else None


class DistillFeatures(InnerDistillation):
    name = "distill_features"
    summary = "train inner layers towards the reference's, through learned adapters"
    weights = (0.1, 0.3, 1.0, 3.0)

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return self.weight, Parameter("order", ("together", "bottom_up"), "together")

    def hook(self, params: Params, context: Context) -> TrainHook:
        return Hints(float(params["weight"]), params["order"] == "bottom_up", context)


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [DistillFeatures()]

"""What distillations share: a recipe has a teacher by them, and those of inner layers compare the same pairs."""

from collections.abc import Sequence

from torch import nn

from autocompress.plugin.contract import Context, Parameter, TrainHook, TrainingStrategy
from autocompress_plugins.distillation.layer_pairs import LayerPair, inner_layers, layer_pairs

TEACHER = frozenset({"teacher"})  # the tag: what trains without one excludes it
NOTHING_INSIDE = (
    "no layer inside the model, below the one that gives the output, gives one row of numbers or more for each example"
)


class Distillation(TrainingStrategy):
    provides = TEACHER


class InnerDistillation(Distillation):
    """Needs inner layers with one name and, beside their channels, one output size in both models.

    weights: what the loss at the inner layers may weigh beside the task's own.
    """

    weights: tuple[float, ...]

    @property
    def weight(self) -> Parameter:
        return Parameter("weight", self.weights, 1.0)

    def refuses(self, context: Context) -> str | None:
        return None if inner_layers(context) else NOTHING_INSIDE


class InnerHook(TrainHook):
    """Asks for the layers of the pairs in both models. maps: only pairs with several places an example."""

    def __init__(self, weight: float, context: Context, *, maps: bool = False) -> None:
        self._weight = weight
        self._context = context
        self._maps = maps
        self._pairs: Sequence[LayerPair] = ()

    def wrap(self, model: nn.Module) -> nn.Module:
        self._pairs = layer_pairs(model, self._context, maps=self._maps)
        self.layers = self.teacher_layers = [pair.name for pair in self._pairs]
        return model

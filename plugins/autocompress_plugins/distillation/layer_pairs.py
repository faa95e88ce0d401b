"""Which layers of a student are compared with the reference's: a few pairs of one name, spread over the depth.

Structural steps keep the names of the modules they leave, so a module is compared with the one of its name. Blocks are
preferred to the layers inside them, and the layer that gives the model's output is left to the loss on the outputs.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed, UsageError
from autocompress.nested import primary, tensors_of
from autocompress.plugin.contract import Context
from autocompress.task import Inputs
from autocompress_plugins.layer_kinds import CONVOLUTIONS
from autocompress_plugins.model_runs import output, watched

MOST_PAIRS = 4  # each costs time in every step, and neighbours say much the same


@dataclass(frozen=True)
class LayerOutput:
    """What a module gave. axis: of the channels. position: how many layers with a matrix or kernel had run by then."""

    shape: torch.Size
    axis: int
    position: int

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    @property
    def places(self) -> torch.Size:
        """The shape without the channels: examples, then the places in an image or a sequence, if any."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]


@dataclass(frozen=True)
class LayerPair:
    """A module of both models. axis: of the channels. student, teacher: how many channels each has."""

    name: str
    axis: int
    student: int
    teacher: int


def layer_pairs(student: nn.Module, context: Context, *, maps: bool = False) -> list[LayerPair]:
    """At most four modules, from the bottom up, whose outputs have one size in both models beside the channels.

    maps: only those with several places an example. Raises CandidateFailed when there are none.
    """
    teachers, students = inner_layers(context, maps=maps), _ObservedRun(student, context.example_inputs).seen
    alike = {
        name: seen
        for name, seen in teachers.items()
        if name in students and (students[name].axis, students[name].places) == (seen.axis, seen.places)
    }
    if not alike:
        raise CandidateFailed(
            "no layer of the compressed model has the name and, beside its channels, the output size of an inner layer "
            f"of the reference ({', '.join(list(teachers)[:3]) or 'which has none to compare'})"
        )
    return [LayerPair(n, s.axis, students[n].channels, s.channels) for n, s in _spread(alike).items()]


def inner_layers(context: Context, *, maps: bool = False) -> dict[str, LayerOutput]:
    """The reference's modules that can be compared, in the order they finish; all but the last, which gives the output.

    maps: only those with several places (of an image or a sequence) an example.
    """
    run = _ObservedRun(context.model, context.example_inputs)
    return {
        name: seen
        for name, seen in run.seen.items()
        if 0 < seen.position < run.position and (not maps or prod(seen.places[1:]) > 1)
    }


class _ObservedRun:
    """One run of a model. seen: every module with weights that gave (examples, ...) numbers, in the order they finish.

    A module does not say which axis holds its channels. It is the one on which the last layer with a matrix (the last
    axis) or a kernel (the second) put them, wherever the sizes show that they were moved since, as in ConvNeXt.
    """

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self.seen: dict[str, LayerOutput] = {}
        self.position = 0
        self._axes, self._width, self._examples = (-1, 1), 0, len(tensors_of(inputs)[0])
        training = model.training
        try:
            with watched(((name, module) for name, module in model.named_modules() if name), self._after):
                output(model, inputs)
        finally:
            model.train(training)

    def _after(self, name: str, module: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        weights = list(module.parameters())
        if not weights:
            return
        matrix = not any(module.children()) and any(w.dim() > 1 for w in weights)
        self.position += matrix
        with suppress(UsageError):
            gave = primary(gave)
        # Nested: what TransformerEncoder gives its layers for padded sequences while it is not training
        if not isinstance(gave, Tensor) or gave.is_nested or gave.dim() < 2:
            return
        if matrix:
            self._axes = (1, -1) if isinstance(module, CONVOLUTIONS) else (-1, 1)
            self._width = gave.shape[self._axes[0]]
        if len(gave) == self._examples and gave.is_floating_point():
            axis = next((a for a in self._axes if gave.shape[a] == self._width), self._axes[0])
            self.seen[name] = LayerOutput(gave.shape, axis % gave.dim(), self.position)


def _spread(layers: Mapping[str, LayerOutput]) -> dict[str, LayerOutput]:
    """The layers nearest to each quarter of the depth, of as few levels of nesting as have enough."""
    level, nesting = layers, {name: name.count(".") for name in layers}
    for depth in sorted(set(nesting.values())):
        level = {name: seen for name, seen in layers.items() if nesting[name] <= depth}
        if len({seen.position for seen in level.values()}) >= MOST_PAIRS:
            break
    names = list(level)
    deepest = max(seen.position for seen in level.values())

    def nearest(quarter: int) -> str:
        share = deepest * quarter / MOST_PAIRS
        return min(names, key=lambda n: (abs(level[n].position - share), nesting[n], -names.index(n)))

    chosen = {nearest(quarter) for quarter in range(1, MOST_PAIRS + 1)}
    return {name: level[name] for name in names if name in chosen}

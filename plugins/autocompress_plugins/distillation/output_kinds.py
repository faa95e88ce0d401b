"""What each output of a model is, which decides how a student is taught it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from autocompress.classes import class_axis, class_count, is_soft
from autocompress.data import Batch, OutputLayout, PerExample, call, read_data
from autocompress.nested import Nested, named_tensors
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Context
from autocompress.task import Task

FIRST_EXAMPLES = 16  # of the training split, whose targets are looked at
TARGET = "target"  # the name of the targets' only tensor; of a tuple target_0, target_1, ...
LEAST_EMBEDDING = 16  # numbers an example, where nothing else tells an embedding from a few measures
UNIT = 1e-3  # how far a length or a sum of probabilities may be from 1


class OutputKind(Enum):
    CLASSES = "class logits"
    NUMBERS = "numbers"
    EMBEDDING = "an embedding"
    MAP = "a map"
    NO_FLOAT = "no floating point"
    NO_EXAMPLES = "the same for every batch"

    @property
    def is_taught(self) -> bool:
        return self not in (OutputKind.NO_FLOAT, OutputKind.NO_EXAMPLES)


@dataclass(frozen=True)
class FoundOutput:
    """target: the name of the tensor of the targets that the output is trained on (``targets_by_name``), if one fits.
    axis: of an output with examples first, the one that holds the classes or channels.
    """

    kind: OutputKind
    target: str | None = None
    axis: int = -1


def output_kinds(task: Task) -> dict[str, FoundOutput]:
    """What each output of a task's model is, by name, as distillation takes it: the first of these rules that holds.

    1. It is no floating point, or has no axis of examples: nothing is taught of it.
    2. (N, D), every row of length 1: an embedding.
    3. A tensor of the targets holds its labels, whole numbers below the number of classes, one for each place beside
       the axis of two classes or more, or probabilities over the second axis: class logits.
    4. ``Task.distill`` names it, or its exponentials sum to 1 over the channels: class logits, or logarithms of
       probabilities, without labels by place, as for CTC.
    5. A tensor of the targets has its shape, but for axes of length 1: numbers.
    6. (N, D) or (N,): an embedding where D is 16 or more, else numbers, as measures that no target names.
    7. It has more axes, as the raw detections (N, C, H, W) of a level: a map.

    Channels are the second axis of outputs with four axes or more, else the last. Where several targets fit, the one
    with the output's name comes first, then the first that is not another's. Raises UsageError as a search does for
    data that it cannot use.
    """
    data = read_data(task)
    first = next(data.splits["train"].sampled(FIRST_EXAMPLES).batches(FIRST_EXAMPLES))
    return _found(task, data.layout, task.copy_of_model(), first)


def kinds_in(context: Context) -> dict[str, FoundOutput]:
    """The same of an opened task."""

    def find() -> dict[str, FoundOutput]:
        return _found(context.task, context.layout, context.model, next(context.train_batches(FIRST_EXAMPLES)))

    return context.once("distillation.output_kinds", find)


def targets_by_name(targets: Nested) -> dict[str, Tensor]:
    """The tensors of nested targets by name, examples first; none of targets that differ in shape by example."""
    return {} if isinstance(targets, PerExample) else named_tensors(targets, TARGET)


def _found(task: Task, layout: OutputLayout, model: nn.Module, batch: Batch) -> dict[str, FoundOutput]:
    with torch.no_grad():
        delivered = layout.delivered(call(evaluating(model), batch.at(slice(2)).inputs))
    outputs, targets = layout.rows(delivered), targets_by_name(batch.targets)
    taken: set[str | None] = set(layout.names)
    found = {}
    for name in layout.names:
        if not delivered[name].is_floating_point():
            found[name] = FoundOutput(OutputKind.NO_FLOAT)
        elif name not in outputs:
            found[name] = FoundOutput(OutputKind.NO_EXAMPLES)
        else:
            first = {t: targets[t] for t in sorted(targets, key=lambda target: (target != name, target in taken))}
            found[name] = _kind(outputs[name], first, task, named=task.distill == name, scored=name == layout.scored)
            taken.add(found[name].target)
    return found


def _kind(output: Tensor, targets: Mapping[str, Tensor], task: Task, *, named: bool, scored: bool) -> FoundOutput:
    channels = 1 if output.dim() > 3 else -1
    if output.dim() == 2 and output.shape[1] > 1 and _is_one(output.norm(dim=1)):
        return FoundOutput(OutputKind.EMBEDDING)
    last = task.classes_last and scored
    for name, target in targets.items():
        if _holds_labels(output, target, task.ignored):
            return FoundOutput(OutputKind.CLASSES, name, class_axis(output, target[: len(output)], last))
    if named or (output.dim() > 1 and _is_one(output.exp().sum(channels))):
        return FoundOutput(OutputKind.CLASSES, axis=channels)
    for name, target in targets.items():
        if _sizes(target.shape[1:]) == _sizes(output.shape[1:]):
            return FoundOutput(OutputKind.NUMBERS, name, channels)
    if output.dim() > 2:
        return FoundOutput(OutputKind.MAP, axis=channels)
    return FoundOutput(OutputKind.EMBEDDING if output[0].numel() >= LEAST_EMBEDDING else OutputKind.NUMBERS)


def _holds_labels(output: Tensor, target: Tensor, ignored: int) -> bool:
    """Most labels decide: those of places that do not count may be any number."""
    classes = class_count(output, target[: len(output)])
    if classes is None or is_soft(output, target[: len(output)]):
        return classes is not None
    counted = target[target != ignored]
    return not counted.numel() or float((counted < classes).double().mean()) > 0.5


def _is_one(values: Tensor) -> bool:
    return bool(((values - 1).abs() < UNIT).all())


def _sizes(shape: Iterable[int]) -> list[int]:
    return [size for size in shape if size != 1]

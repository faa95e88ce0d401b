"""A loss or a metric of a user's that takes every output with every target: shapes such as (N, 1) and (N,) broadcast to
(N, N), with a warning at most. Training then goes towards the mean of the targets, and a score says nothing.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from autocompress.data.first_examples import FirstExamples
from autocompress.data.scoring.scorers import metric_value
from autocompress.errors import DataError
from autocompress.losses import as_shaped
from autocompress.metric_names import is_object, metric_and_entry
from autocompress.nested import Nested, filled, tensors_of
from autocompress.task import Task

TOLD = "Using a target size"  # the beginning of torch's own warning
SAME_VALUE = 1e-4  # of a loss or a metric, relative

_Criterion = Callable[[Nested, Nested], float]  # of what a model returns and of targets


def broadcast_warnings(task: Task, first: FirstExamples) -> list[str]:
    """What is said of a split, as its first examples show, whose targets differ in shape from the outputs, where the
    loss named "mse" brings them together. Raises DataError where a loss or a metric of the user's broadcasts them.
    """
    for name, criterion in _criteria(task):
        shapes = _broadcast_shapes(criterion, first)
        if shapes is not None:
            own, given = shapes
            raise DataError(
                f"Task.{name} takes every output with every target of the {first.split.name} split: outputs have the "
                f"shape {own} an example and targets {given}; give targets of the outputs' shape, or squeeze in the "
                f"{name}"
            )
    targets, outputs = first.batch.targets, first.outputs(task)
    if task.loss != "mse" or not isinstance(targets, Tensor) or outputs.shape == targets.shape:
        return []
    as_shaped(outputs, targets)
    return [
        f"targets have the shape {tuple(targets.shape[1:])} an example and outputs {tuple(outputs.shape[1:])}: the "
        "loss takes them in the outputs' shape, a metric as they are"
    ]


def _criteria(task: Task) -> Iterator[tuple[str, _Criterion]]:
    """Those that are functions of the user's, or of a library: the ones that have names look at shapes themselves."""
    metric, entry = metric_and_entry(task.metric)
    if callable(task.loss):
        yield "loss", lambda returned, targets: float(task.loss_fn(returned, targets))
    if callable(metric) and not is_object(metric):
        yield "metric", partial(metric_value, task, metric, entry)


def _broadcast_shapes(criterion: _Criterion, first: FirstExamples) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The shapes of an example of an output and of targets of which every pair is taken; None where there are none."""
    returned, targets = tensors_of(first.returned), tensors_of(first.batch.targets)
    unequal = [(i, j) for i, o in enumerate(returned) for j, t in enumerate(targets) if o.shape != t.shape]
    said = _said_by_torch(criterion, first) if unequal else []
    for i, j in unequal:
        told = any(str(returned[i].shape) in text and str(targets[j].shape) in text for text in said)
        if told or (_grow(returned[i], targets[j]) and _takes_every_pair(criterion, first, i, j)):
            return tuple(returned[i].shape[1:]), tuple(targets[j].shape[1:])
    return None


def _grow(output: Tensor, targets: Tensor) -> bool:
    """Whether the two broadcast to more numbers than either has."""
    try:
        both = np.broadcast_shapes(output.shape, targets.shape)
    except ValueError:
        return False
    return math.prod(both) > max(output.numel(), targets.numel())


def _said_by_torch(criterion: _Criterion, first: FirstExamples) -> list[str]:
    """Its warnings of it, each with two shapes: also others may differ in a loss, as an output and its mean do."""
    with warnings.catch_warnings(record=True) as said, torch.no_grad():
        warnings.simplefilter("always")
        try:
            criterion(first.returned, first.batch.targets)
        except Exception:  # what the user's function raises is told when a training step is tried
            return []
    return [str(each.message) for each in said if str(each.message).startswith(TOLD)]


def _takes_every_pair(criterion: _Criterion, first: FirstExamples, output: int, target: int) -> bool:
    """Whether it hangs on the values of some targets, and not on which output each of them stands beside, which it
    does once they have the output's shape: a difference of two means is of no pairs, whatever the shapes are. Outputs
    and targets are replaced, by what is an answer, a probability and a label alike: any first examples would do then,
    also three of one class or of a model that is far off.
    """
    returned, targets = tensors_of(first.returned), tensors_of(first.batch.targets)
    own, given = returned[output], targets[target]
    if not own.is_floating_point():
        return False
    label = (torch.arange(len(first.batch)) > 0).to(torch.float32)  # 0, 1, 1
    answers = [_as_rows(0.25 + 0.5 * label, o) if i == output else o for i, o in enumerate(returned)]

    def value(labels: Tensor, shape: torch.Size) -> float:
        rows = _as_rows(labels, given.new_empty(shape))
        wanted = [rows if j == target else t for j, t in enumerate(targets)]
        return criterion(filled(first.returned, answers), filled(first.batch.targets, wanted))

    moved, none = label.roll(1), torch.zeros_like(label)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            one = value(label, given.shape)
            if not _same(one, value(moved, given.shape)) or _same(one, value(none, given.shape)):
                return False
            return not _same(value(label, own.shape), value(moved, own.shape))
    except Exception:  # as above
        return False


def _as_rows(values: Tensor, like: Tensor) -> Tensor:
    """One value for each example, in a tensor like another."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1)).expand_as(like).clone()


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME_VALUE, abs_tol=1e-7)

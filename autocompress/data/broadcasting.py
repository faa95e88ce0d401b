"""A loss of a user's that takes every output with every target: shapes that differ by axes of length one broadcast,
with a warning at most, and train towards the mean of the targets.
"""

import math
import warnings

import torch
from torch import Tensor

from autocompress.data.first_examples import FirstExamples
from autocompress.errors import DataError
from autocompress.losses import as_shaped
from autocompress.nested import Nested
from autocompress.task import Task

TOLD = "Using a target size"  # the beginning of torch's own warning
SAME_LOSS = 1e-4  # of a loss, relative


def broadcast_warnings(task: Task, first: FirstExamples) -> list[str]:
    """What is said of a split, as its first examples show, whose targets differ in shape from the outputs, where the
    loss named "mse" brings them together. Raises DataError where a loss of the user's broadcasts them.
    """
    targets, outputs = first.batch.targets, first.outputs(task)
    if not isinstance(targets, Tensor):
        return []
    own, given = tuple(outputs.shape[1:]), tuple(targets.shape[1:])
    if outputs.dim() == targets.dim() and own == given:
        return []
    if task.loss == "mse":
        as_shaped(outputs, targets)
        return [
            f"targets have the shape {given} an example and outputs {own}: the loss takes them in the outputs' "
            "shape, a metric as they are"
        ]
    if callable(task.loss) and _broadcasts(task, first.returned, targets):
        raise DataError(
            f"Task.loss takes every output with every target of the {first.split.name} split: outputs have the shape "
            f"{own} an example and targets {given}; give targets of the outputs' shape, or squeeze in the loss"
        )
    return []


def _broadcasts(task: Task, returned: Nested, targets: Tensor) -> bool:
    """Whether torch says so, or, where the shapes differ by axes of length one alone, the loss is the same whichever
    example a target stands beside: it is taken of every pair then.
    """
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            whole = _loss(task, returned, targets)
        if any(str(each.message).startswith(TOLD) for each in said):
            return True
        other = targets.roll(1, 0)
        if task.scored(returned).numel() != targets.numel() or torch.equal(other, targets):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            moved = _loss(task, returned, other)
    except Exception:  # what the user's loss raises is told when a training step is tried
        return False
    return math.isclose(whole, moved, rel_tol=SAME_LOSS, abs_tol=1e-7)


def _loss(task: Task, returned: Nested, targets: Tensor) -> float:
    with torch.no_grad():
        return float(task.loss_fn(returned, targets))

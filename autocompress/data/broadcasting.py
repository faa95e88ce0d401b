"""A loss of a user's that takes every output with every target: shapes that differ by axes of length one broadcast,
with a warning at most, and train towards the mean of the targets.
"""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from autocompress.data.batch import Batch
from autocompress.data.layout import returned_for
from autocompress.data.split import Split
from autocompress.errors import DataError
from autocompress.losses import as_shaped
from autocompress.task import Task

TOLD = "Using a target size"  # the beginning of torch's own warning
LOOKED_AT = 3  # examples
SAME_LOSS = 1e-4  # of a loss, relative


def broadcast_warnings(task: Task, model: Any, split: Split) -> list[str]:
    """What is said of a split whose targets differ in shape from the outputs, where the loss named "mse" brings them
    together. Raises DataError where a loss of the user's broadcasts them.
    """
    batch = split.take(torch.arange(min(LOOKED_AT, len(split))))
    if not isinstance(batch.targets, Tensor):
        return []
    outputs = task.scored(returned_for(model, batch.inputs))
    own, given = tuple(outputs.shape[1:]), tuple(batch.targets.shape[1:])
    if outputs.dim() == batch.targets.dim() and own == given:
        return []
    if task.loss == "mse":
        as_shaped(outputs, batch.targets)
        return [
            f"targets have the shape {given} an example and outputs {own}: the loss takes them in the outputs' "
            "shape, a metric as they are"
        ]
    if callable(task.loss) and _broadcasts(task, model, batch):
        raise DataError(
            f"Task.loss takes every output with every target of the {split.name} split: outputs have the shape {own} "
            f"an example and targets {given}; give targets of the outputs' shape, or squeeze in the loss"
        )
    return []


def _broadcasts(task: Task, model: Any, batch: Batch) -> bool:
    """Whether torch says so, or, where the shapes differ by axes of length one alone, the loss is the same whichever
    example a target stands beside: it is taken of every pair then.
    """
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            whole, outputs = _loss(task, model, batch)
        if any(str(each.message).startswith(TOLD) for each in said):
            return True
        if outputs.numel() != batch.targets.numel():
            return False
        other = Batch(batch.inputs, batch.targets.roll(1, 0))
        if torch.equal(other.targets, batch.targets):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            moved, _ = _loss(task, model, other)
    except Exception:  # what the user's loss raises is told when a training step is tried
        return False
    return math.isclose(whole, moved, rel_tol=SAME_LOSS, abs_tol=1e-7)


def _loss(task: Task, model: Any, batch: Batch) -> tuple[float, Tensor]:
    returned = returned_for(model, batch.inputs)
    with torch.no_grad():
        return float(task.loss_fn(returned, batch.targets)), task.scored(returned)

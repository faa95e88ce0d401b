"""The task's loss on training examples, and by how much it rises without a part of the model."""

import math
from collections.abc import Collection, Iterable
from dataclasses import replace

import torch
from torch import nn

from autocompress.data import Batch, call, primary
from autocompress.plugin.contract import Sensitivity
from autocompress.task import Loss


def mean_loss(model: nn.Module, batches: Iterable[Batch], loss_fn: Loss) -> float:
    """Mean over the examples, in evaluation mode; infinite where it is no number."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            value = loss_fn(primary(call(model.eval(), batch.inputs)), batch.targets)
            total += float(value) * len(batch.targets)
            count += len(batch.targets)
    return total / count if math.isfinite(total) else math.inf


def rise(loss: float, base: float) -> float:
    """By how much ``loss`` is above ``base``; infinite where one of them is no number."""
    return loss - base if math.isfinite(loss) and math.isfinite(base) else math.inf


def most_sensitive_first(parts: Collection[Sensitivity]) -> list[Sensitivity]:
    """Sorted by loss. JSON has no infinity: in its place stands twice the largest loss that is a number, at least 1."""
    most = max((part.loss for part in parts if math.isfinite(part.loss)), default=0.0)
    told = [part if math.isfinite(part.loss) else replace(part, loss=max(2 * most, 1.0)) for part in parts]
    return sorted(told, key=lambda part: -part.loss)

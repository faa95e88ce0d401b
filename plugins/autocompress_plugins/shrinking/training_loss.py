"""The task's loss on training examples, and by how much it rises without a part of the model.

Of a slow model it is measured on fewer examples, so plans that are made by it depend on the machine; a plan that was
made once is kept.
"""

import copy
import math
import time
from collections.abc import Iterable

import torch
from torch import nn

from autocompress.data import Batch, call
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Context
from autocompress.task import Loss

LOSSES_S = 8.0  # spent on the losses that one plan is made by, about: a structure waits for it before it can be timed
LOSS_EXAMPLES = (256, 64, 16)  # of a slow model fewer; the last is what says anything at all
TRIES, ENOUGH_S = 3, 1.0  # the second and third of a slow model would tell nothing new


def affordable(seconds_each: float, evaluations: int, within_s: float = LOSSES_S) -> int:
    """On how many examples a loss can be measured so often; 0 where there is no time for the fewest."""
    return next((many for many in LOSS_EXAMPLES if many * evaluations * seconds_each <= within_s), 0)


def examples_for(context: Context, evaluations: int) -> int:
    """On how many training examples the reference's loss is measured so often: what is affordable, or the fewest."""
    return affordable(seconds_an_example(context), evaluations) or LOSS_EXAMPLES[-1]


def seconds_an_example(context: Context) -> float:
    """What the reference's loss takes for one training example, at its fastest."""
    batches = list(context.train_batches(LOSS_EXAMPLES[-1]))
    took: list[float] = []
    while len(took) < TRIES and sum(took) < ENOUGH_S:
        began = time.perf_counter()
        mean_loss(copy.deepcopy(context.model), batches, context.task.loss_fn)
        took.append(time.perf_counter() - began)
    return min(took) / sum(len(batch) for batch in batches)


def mean_loss(model: nn.Module, batches: Iterable[Batch], loss_fn: Loss) -> float:
    """Mean over the examples, in evaluation mode; infinite where it is no number."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            value = loss_fn(call(evaluating(model), batch.inputs), batch.targets)
            total += float(value) * len(batch)
            count += len(batch)
    return total / count if math.isfinite(total) else math.inf


def rise(loss: float, base: float) -> float:
    """By how much ``loss`` is above ``base``; infinite where one of them is no number."""
    return loss - base if math.isfinite(loss) and math.isfinite(base) else math.inf

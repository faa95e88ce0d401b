"""Scores with their intervals, and how two models compare on the same examples."""

import math

import numpy as np
import torch
from torch import Tensor

from autocompress.arrays import Floats
from autocompress.data.split import Split
from autocompress.evaluation import NORMAL, Score
from autocompress.task import Metric, Task, class_axis

SCORE_RESAMPLES = 200


def targets_of(split: Split) -> Tensor:
    return split.memory.targets if split.memory else torch.cat([batch.targets for batch in split.batches(1024)])


def score_of(task: Task, outputs: Tensor, targets: Tensor, seed: int = 0) -> Score:
    """The metric with a 95 % interval: Wilson's for accuracy (Wilson 1927), a bootstrap for any other metric."""
    value = float(task.metric_fn(outputs, targets))
    if not math.isfinite(value):
        return Score(value, value, value)
    if task.metric == "accuracy":
        return Score(value, *wilson(value, targets.numel()))
    draws = _bootstrap(task.metric_fn, [outputs], targets, seed)[:, 0]
    if not len(draws):
        return Score(value, value, value)
    return Score(value, float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of ``count`` (Wilson 1927)."""
    z = NORMAL
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(task: Task, one: Tensor, other: Tensor, targets: Tensor, seed: int = 0) -> tuple[float, float]:
    """Score of ``one`` minus score of ``other`` on the same examples, and its standard error, which counts at least one
    example that disagrees.
    """
    difference = float(task.metric_fn(one, targets)) - float(task.metric_fn(other, targets))
    if task.metric == "accuracy":
        axis = class_axis(one, targets)
        right = (one.argmax(axis) == targets).double() - (other.argmax(axis) == targets).double()
        if right.numel() < 2:
            return difference, 1.0
        return difference, max(float(right.std() / math.sqrt(right.numel())), 1 / right.numel())
    draws = _bootstrap(task.metric_fn, [one, other], targets, seed)
    return difference, float(np.std(draws[:, 0] - draws[:, 1])) if len(draws) else 0.0


def compared_score(task: Task, own: Tensor, reference: Tensor, targets: Tensor, whole: Score) -> Score:
    """The score on a whole split, told from a sample of its examples: the reference's there and the difference between
    both on the sample, which is known several times better than either score on it (a control variate). The interval
    has the error of both.

    own, reference: outputs for the examples of ``targets`` (N, ...). whole: the reference's score on the whole split.
    """
    difference, error = paired_difference(task, own, reference, targets)
    val, half = whole.val + difference, NORMAL * math.hypot(error, whole.error)
    return Score(val, val - half, val + half, sampled=len(targets))


def _bootstrap(metric: Metric, outputs: list[Tensor], targets: Tensor, seed: int) -> Floats:
    """The metric of each of ``outputs`` on the same resampled examples -> (at most RESAMPLES, len(outputs)); resamples
    that the metric cannot score are left out."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(SCORE_RESAMPLES):
        drawn = torch.randint(len(targets), (len(targets),), generator=generator)
        try:
            row = [float(metric(o[drawn], targets[drawn])) for o in outputs]
        except Exception:  # the user's metric: a resample of one class has no area under a curve
            continue
        if all(map(math.isfinite, row)):
            rows.append(row)
    return np.array(rows).reshape(-1, len(outputs))

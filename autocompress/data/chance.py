"""What the reference would score if its outputs had nothing to do with the targets, and what is worth having beside it.

Each output is scored against the target of another example, as in a permutation test (Ojala and Garriga, "Permutation
Tests for Studying Classifier Performance", JMLR 11, 2010). For accuracy that is the sum over the classes of their share
among the targets times their share among the answers.
"""

import math

import numpy as np
import torch
from torch import Tensor

from autocompress.evaluation import NORMAL, Chance, Score
from autocompress.task import Task

PERMUTATIONS = 20  # a tenth of what the interval of a metric of the user's own takes
FEWEST_PERMUTATIONS = 2  # that say how far they spread


def chance_score(
    task: Task, outputs: Tensor, targets: Tensor, *, seed: int = 0, permutations: int = PERMUTATIONS
) -> Chance | None:
    """Mean and standard deviation of the metric over permuted targets, in the metric's own unit; where it is more, the
    metric of the mean output given for every example, which knows nothing of an example either.

    outputs: (N, ...) of the N examples of ``targets`` (N, ...), which are permuted along the first axis, so that an
    example's own places stay together. The metric is called ``permutations`` times. Permutations that the metric cannot
    score, because it raises or is not finite, are left out; None when fewer than two are left.
    """
    generator = torch.Generator().manual_seed(seed)
    found: list[float] = []
    for _ in range(permutations):
        order = torch.randperm(len(targets), generator=generator)
        try:
            found.append(float(task.metric_fn(outputs, targets[order])))
        except Exception:  # the user's metric raises anything
            continue
    scores = [value for value in found if math.isfinite(value)]
    if len(scores) < FEWEST_PERMUTATIONS:
        return None
    mean = float(np.mean(scores))
    return Chance(max(mean, _of_the_mean_output(task, outputs, targets, mean)), float(np.std(scores, ddof=1)))


def _of_the_mean_output(task: Task, outputs: Tensor, targets: Tensor, otherwise: float) -> float:
    constant = outputs.double().mean(0, keepdim=True).to(outputs.dtype).expand_as(outputs)
    try:
        score = float(task.metric_fn(constant, targets))
    except Exception:  # the user's metric raises anything
        return otherwise
    return score if math.isfinite(score) else otherwise


def keeps_half_the_lead(score: float, reference: Score, chance: Chance | None) -> bool:
    """Whether a file keeps at least half of what the reference is ahead of chance; higher scores are better.

    Always so when chance is unknown, and when the reference's lead is within its error: the lower half of its 95 %
    interval and 1.96 standard deviations of chance, added as independent errors are.
    """
    if chance is None:
        return True
    lead = reference.val - chance.score
    error = math.hypot(reference.val - reference.val_low, NORMAL * chance.error)
    return not lead > error or score >= chance.score + lead / 2

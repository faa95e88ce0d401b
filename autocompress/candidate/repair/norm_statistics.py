"""The statistics of a batch norm recalibrated: moved by as much as what it reads has moved on the same examples.

What a small sample says otherwise than the training data did cancels. Recalibration of a pruned model's norms: Li et
al., "EagleEye", ECCV 2020 (arXiv 2007.02491).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BATCH_NORM_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LEAST_VAR = 1e-8  # of a channel, before or now, below which the variance that its norm goes by is left


@dataclass(frozen=True)
class Statistics:
    """Of what a batch norm reads: by channel, over all examples and places. count: of these."""

    mean: Tensor
    var: Tensor
    count: int

    @classmethod
    def of(cls, given: Tensor) -> "Statistics":
        """given: (N, C) or (N, C, *places)."""
        var, mean = torch.var_mean(given, [axis for axis in range(given.dim()) if axis != 1], correction=0)
        return cls(mean.double(), var.double(), given.numel() // given.shape[1])

    @classmethod
    def joined(cls, calls: Sequence["Statistics"]) -> "Statistics":
        """Over all that several calls read."""
        shares = torch.tensor([one.count for one in calls], dtype=torch.float64)[:, None]
        shares = shares / shares.sum()
        means, variances = (torch.stack(values) for values in zip(*((one.mean, one.var) for one in calls), strict=True))
        mean = (shares * means).sum(0)
        return cls(mean, (shares * (variances + (means - mean).square())).sum(0), sum(one.count for one in calls))


def recalibrate(norm: nn.Module, now: Statistics, before: Statistics, outputs: Tensor) -> None:
    """Move the statistics of a batch norm from those of what the original read to those of what it reads now.

    outputs: which channels of the original it has. One that keeps no statistics is left.
    """
    if getattr(norm, "running_mean", None) is None:
        return
    mean, var = before.mean[outputs], before.var[outputs]
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    varies = (var > LEAST_VAR) & (now.var > LEAST_VAR)
    scale = torch.where(varies, now.var / var.clamp(min=LEAST_VAR), 1.0)
    norm.running_mean.copy_(norm.running_mean.double() * scale.sqrt() + now.mean - mean * scale.sqrt())
    norm.running_var.copy_(norm.running_var.double() * scale)

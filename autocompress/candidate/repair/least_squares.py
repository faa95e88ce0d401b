"""Linear layers refitted by least squares, with a ridge towards the weights they have. Pure.

A layer of the original gave targets T for an input that the changed layer sees as rows Z. Its new weights W minimize
|T - Z W' - c|^2 + lambda |W - W0|^2: the ridge pulls towards the weights W0 that it has, not towards zero, so that what
the examples leave open stays as it was. lambda is chosen on examples of their own. Reconstruction of a layer's output
from the channels that are kept: He, Zhang & Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV
2017; ridge towards the original weights: Meng et al., "OSSCAR", 2024 (arXiv 2403.12983).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # times the mean of the regressors' squares, about their means with an intercept
ROWS_PER_REGRESSOR = 8  # with fewer the ridge is not tried below LEAST_WITH_FEW
LEAST_WITH_FEW = 1e-2
LEAST_GAIN = 0.01  # of the squared error on held-out rows, that a refit has to take away
CHUNK = 8192  # rows, multiplied in single precision at a time


@dataclass(frozen=True)
class RegressionRows:
    """By group. regressors: (G, R, I). targets: (G, R, O)."""

    regressors: Tensor
    targets: Tensor

    def about(self, regressors: Tensor, targets: Tensor) -> "RegressionRows":
        """Less these means, (G, 1, I) and (G, 1, O)."""
        return RegressionRows(self.regressors - regressors, self.targets - targets)

    def off(self, weights: Tensor) -> Tensor:
        """What weights (G, O, I) leave of the targets."""
        return self.targets - self.regressors @ weights.transpose(1, 2)


@dataclass(frozen=True)
class Fit:
    """weights: (G, O, I). intercept: (G, O), None where the layer takes none. ridge: that was chosen; infinite where
    the weights stay and the intercept alone is new. before, after: squared errors on the held-out rows as a share of
    the targets' squares.
    """

    weights: Tensor
    intercept: Tensor | None
    ridge: float
    before: float
    after: float


def refit(fitted: RegressionRows, held_out: RegressionRows, weights: Tensor, *, intercept: bool) -> Fit | None:
    """The weights that give the targets best; None where none does clearly better than those there are.

    fitted, held_out: of different examples. weights: (G, O, I), what the layer has. intercept: whether it has a bias,
    or a norm behind it, that takes one. Memory: as much again as the rows, and a square matrix as wide as there are
    regressors or rows, whichever are fewer.
    """
    before, scale = squared(held_out.off(weights)), max(squared(held_out.targets), 1e-30)
    means = tuple(part.mean(1, keepdim=True) for part in (fitted.regressors, fitted.targets))
    if intercept:
        fitted, held_out = fitted.about(*means), held_out.about(*means)
    left = held_out.off(weights)
    best, least, chosen = weights.double(), squared(left) if intercept else before, float("inf")
    for ridge, change in _changes(fitted.regressors, fitted.off(weights)):
        error = squared(left - held_out.regressors @ change.float().transpose(1, 2))
        if error < least:
            best, least, chosen = weights.double() + change, error, ridge
    if not least < (1 - LEAST_GAIN) * before:
        return None
    constant = None
    if intercept:
        constant = (means[1].double() - means[0].double() @ best.transpose(1, 2)).squeeze(1)
    return Fit(best, constant, chosen, before / scale, least / scale)


def are_few(rows: int, regressors: int) -> bool:
    """Whether a fit of so many regressors is held more strongly to the weights there are."""
    return rows < ROWS_PER_REGRESSOR * regressors


def squared(values: Tensor) -> float:
    """The sum of the squares."""
    return float(values.square().sum(dtype=torch.float64))


def _changes(z: Tensor, off: Tensor) -> Iterator[tuple[float, Tensor]]:
    """For each ridge what it adds to the weights, (G, O, I). z: (G, R, I). off: (G, R, O), what the weights leave.

    Of fewer rows than regressors the equal form with a matrix as wide as the rows is solved.
    """
    rows, width = z.shape[1:]
    by_row = rows < width
    moments = _products(z.transpose(1, 2), z.transpose(1, 2)) if by_row else _products(z, z)
    mean_square = moments.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None] / width
    mean_square = mean_square.clamp(min=1e-12 * max(float(mean_square.max()), 1e-30))
    wanted = off.double() if by_row else _products(z, off)
    identity = torch.eye(moments.shape[-1], dtype=torch.float64)
    for ridge in RIDGES:
        if are_few(rows, width) and ridge < LEAST_WITH_FEW:
            continue
        factor, failed = torch.linalg.cholesky_ex(moments + ridge * mean_square * identity)
        if int(failed.abs().max()):
            continue
        solved = torch.cholesky_solve(wanted, factor)
        yield ridge, (z.double().transpose(1, 2) @ solved if by_row else solved).transpose(1, 2)


def _products(one: Tensor, other: Tensor) -> Tensor:
    """(G, R, A), (G, R, B) -> (G, A, B), summed over rows in double precision."""
    found = torch.zeros(one.shape[0], one.shape[2], other.shape[2], dtype=torch.float64)
    for start in range(0, one.shape[1], CHUNK):
        found += one[:, start : start + CHUNK].transpose(1, 2) @ other[:, start : start + CHUNK]
    return found

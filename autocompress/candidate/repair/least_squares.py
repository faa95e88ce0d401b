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

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # times the mean of the regressors' variances
ROWS_PER_REGRESSOR = 8  # with fewer the ridge is not tried below LEAST_WITH_FEW
LEAST_WITH_FEW = 1e-2
LEAST_GAIN = 0.01  # of the squared error on held-out rows, that a refit has to take away
CHUNK = 8192  # rows, multiplied in single precision at a time


@dataclass(frozen=True)
class RowSums:
    """Sums over rows that a fit needs, in double precision: memory follows the widths, not the rows.

    rows: how many. zz (G, I, I), tz (G, O, I), z (G, I), t (G, O): of regressors and targets, by group. tt: squares of
    all targets.
    """

    rows: int
    zz: Tensor
    tz: Tensor
    z: Tensor
    t: Tensor
    tt: float

    @classmethod
    def of(cls, regressors: Tensor, targets: Tensor) -> "RowSums":
        """regressors: (G, R, I). targets: (G, R, O)."""
        groups, rows, width = regressors.shape
        outputs = targets.shape[-1]
        zz = torch.zeros(groups, width, width, dtype=torch.float64)
        tz = torch.zeros(groups, outputs, width, dtype=torch.float64)
        for start in range(0, rows, CHUNK):
            z, t = regressors[:, start : start + CHUNK].float(), targets[:, start : start + CHUNK].float()
            zz += z.transpose(1, 2) @ z
            tz += t.transpose(1, 2) @ z
        z_sum, t_sum = (part.sum(1, dtype=torch.float64) for part in (regressors, targets))
        return cls(rows, zz, tz, z_sum, t_sum, float(targets.square().sum(dtype=torch.float64)))

    def centred(self, means: "RowSums") -> "RowSums":
        """As if the means of other rows had been taken from every regressor and target."""
        z, t = means.z / means.rows, means.t / means.rows
        zz = self.zz - _outer(self.z, z) - _outer(z, self.z) + self.rows * _outer(z, z)
        tz = self.tz - _outer(self.t, z) - _outer(t, self.z) + self.rows * _outer(t, z)
        tt = self.tt - 2 * float((self.t * t).sum()) + self.rows * float(t.square().sum())
        return RowSums(self.rows, zz, tz, self.z - self.rows * z, self.t - self.rows * t, max(tt, 0.0))

    def error(self, weights: Tensor) -> float:
        """Squared error of weights (G, O, I), summed over rows and outputs."""
        error = self.tt - 2 * float((weights * self.tz).sum()) + float((weights @ self.zz * weights).sum())
        return max(error, 0.0)  # in this order NaN stays NaN


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


def refit(fitted: RowSums, held_out: RowSums, weights: Tensor, *, intercept: bool) -> Fit | None:
    """The weights that give the targets best; None where none does clearly better than those there are.

    fitted, held_out: of rows of different examples. weights: (G, O, I), what the layer has. intercept: whether it has a
    bias, or a norm behind it, that takes one.
    """
    own = weights.double()
    before = held_out.error(own)
    scale = max(held_out.tt, 1e-30)
    fit_on, tell_by = (fitted.centred(fitted), held_out.centred(fitted)) if intercept else (fitted, held_out)
    best: tuple[float, Tensor, float] | None = None
    for ridge, candidate in _candidates(fit_on, own, intercept=intercept):
        error = tell_by.error(candidate)
        if best is None or error < best[0]:
            best = error, candidate, ridge
    if best is None or not best[0] < (1 - LEAST_GAIN) * before:
        return None
    error, found, ridge = best
    constant = None
    if intercept:
        constant = fitted.t / fitted.rows - (found @ (fitted.z / fitted.rows).unsqueeze(-1)).squeeze(-1)
    return Fit(found, constant, ridge, before / scale, error / scale)


def _candidates(moments: RowSums, own: Tensor, *, intercept: bool) -> Iterator[tuple[float, Tensor]]:
    if intercept:
        yield float("inf"), own
    width = own.shape[-1]
    variances = moments.zz.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None]
    variances = variances.clamp(min=1e-12 * max(float(variances.max()), 1e-30))
    identity = torch.eye(width, dtype=torch.float64)
    few = moments.rows < ROWS_PER_REGRESSOR * width
    for ridge in RIDGES:
        if few and ridge < LEAST_WITH_FEW:
            continue
        strength = ridge * variances
        factor, failed = torch.linalg.cholesky_ex(moments.zz + strength * identity)
        if int(failed.abs().max()):
            continue
        wanted = (moments.tz + strength * own).transpose(1, 2)
        yield ridge, torch.cholesky_solve(wanted, factor).transpose(1, 2)


def _outer(one: Tensor, other: Tensor) -> Tensor:
    """(G, A), (G, B) -> (G, A, B)."""
    return one.unsqueeze(-1) * other.unsqueeze(-2)

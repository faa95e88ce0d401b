"""Importance of units by the error that is left after every layer that reads them is refitted to the others.

The structured optimal brain surgeon: where G is the second moment of what a layer reads, W its weights and S the
columns that go, the least squared change of its output over all weights of the remaining columns is
tr(W_S [(G^-1)_SS]^-1 W_S^T). Units go one after another, the one first that adds least, with W and G^-1 brought up to
date after each. Hassibi & Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", 1993; Kurtic et
al., "ZipLM: Inference-Aware Structured Pruning", 2023; Meng et al., "OSSCAR", arXiv 2403.12983.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

REFIT_RIDGE = 1e-3  # of the mean square a column: towards the weights as they are
ONE_BY_ONE = 256  # units; of more, several go at a time
LATE = 128  # columns whose removal the full matrices do not show yet
GONE = -2
CONSTANT = 1e-12  # of the largest square: a column that varies less does not vary


@dataclass(frozen=True)
class ConsumerStatistics:
    """gram: second moment of the columns that a layer reads, about their mean where it has an intercept -> (C, C).
    weight: (rows, C). units: the unit of each column; -1 for one that stays.
    """

    gram: Tensor
    weight: Tensor
    units: tuple[int, ...]


def surgeon_importance(consumers: Sequence[ConsumerStatistics], size: int, blocks: int = 1) -> Tensor:
    """Error of all consumers, each as a share of its output's energy, once a unit and all that matter less are gone ->
    (size,), float64. From each of ``blocks`` equal runs of units equally many go, one of each in turn. Of wide layers a
    few that add least go at a time.
    """
    at_a_time = max(1, size // blocks // ONE_BY_ONE)
    refitted = [fit for consumer in consumers if (fit := _Refitted(consumer, size, at_a_time)).energy > 0]
    values, removed = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.bool)
    total = 0.0
    while not removed.all():
        gone = removed.view(blocks, -1).sum(1)
        allowed = ~removed & (gone == gone.min()).repeat_interleave(size // blocks)
        added = sum((fit.added() for fit in refitted), torch.zeros(size, dtype=torch.float64))
        run = int(added.where(allowed, math.inf).argmin()) // (size // blocks)  # whose turn it is
        own = slice(run * (size // blocks), (run + 1) * (size // blocks))
        least = added[own].where(allowed[own], math.inf).argsort(stable=True)[: min(at_a_time, int(allowed[own].sum()))]
        units = (own.start + least).tolist()
        shares = added[units].clamp(min=1e-12).cumsum(0)
        rise = sum(fit.remove(units) for fit in refitted)
        for unit, share in zip(units, (shares / shares[-1]).tolist(), strict=True):
            value = max(total + share * rise, math.nextafter(total, math.inf))  # what costs nothing keeps its order
            values[unit], removed[unit] = value, True
        total = value
    return values


class _Refitted:
    """A layer that reads ever fewer columns, and is refitted to them.

    Where S = H_uu^-1 H_u for the columns u that go, of the inverse moments H and the weights' squares M = W^T W:
    H loses H_u^T S, and M loses S^T Q + Q^T S with Q = M_u - M_uu S / 2. The full matrices are brought up to date for
    many columns at once; before that only the rows that are asked for, and each unit's own block.
    """

    def __init__(self, consumer: ConsumerStatistics, size: int, at_a_time: int) -> None:
        gram, weight = consumer.gram.double(), consumer.weight.double()
        weights, squares = weight.T @ weight, gram.diagonal()
        self.energy = float((gram * weights).sum())
        varies = squares > CONSTANT * squares.max()
        ridge = REFIT_RIDGE * squares[varies].mean() if varies.any() else torch.ones(())
        damped = gram + ridge * torch.eye(len(gram), dtype=torch.float64)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        self._weights = weights * varies * varies[:, None]
        self._units, self._size = torch.tensor(consumer.units), size
        self._most_at_a_time = at_a_time
        self._place()

    def added(self) -> Tensor:
        """By how much the error rises when a unit goes -> (size,); 0 for one that it does not read."""
        found = torch.zeros(self._size, dtype=torch.float64)
        for own in self._alike:
            single = own.columns.shape[1] == 1
            solved = own.weights / own.inverse if single else torch.linalg.solve(own.inverse, own.weights)
            found[own.units] = solved.diagonal(dim1=1, dim2=2).sum(1)
        return found.clamp(min=0.0) / self.energy

    def remove(self, units: Sequence[int]) -> float:
        """By how much the error rises when these go, with what is left refitted to all of them gone."""
        columns = [column for unit in units for column in self._columns.get(unit, ())]
        if not columns:
            return 0.0
        many = len(columns)
        if self._filled + many > self._late.shape[1]:
            self._update()
            columns = [column for unit in units for column in self._columns.get(unit, ())]
        late = self._late[:, : self._filled]
        taken, moved, given = late
        across = self._inverse[columns].addmm_(given[:, columns].T, taken, alpha=-1)
        back = torch.linalg.solve(across[:, columns], across)  # what the others take over of the weights that go
        rows = self._weights[columns].addmm_(taken[:, columns].T, moved, alpha=-1)
        rows = rows.addmm_(moved[:, columns].T, taken, alpha=-1)
        rise = torch.linalg.solve(across[:, columns], rows[:, columns]).trace()
        rows = rows.addmm(rows[:, columns], back, alpha=-0.5)
        self._late[:, self._filled : self._filled + many] = torch.stack([back, rows, across])
        self._filled += many
        self._units[columns] = GONE
        for own in self._alike:
            own.remove(units, back, rows, across)
        return max(float(rise), 0.0) / self.energy

    def _update(self) -> None:
        """Bring the matrices up to date, without the columns that are gone."""
        taken, moved, given = self._late[:, : self._filled]
        kept = (self._units != GONE).nonzero()[:, 0]
        taken, moved, given = (rows[:, kept] for rows in (taken, moved, given))
        self._inverse = self._inverse[kept][:, kept].addmm_(given.T, taken, alpha=-1)
        self._weights = self._weights[kept][:, kept].addmm_(taken.T, moved, alpha=-1).addmm_(moved.T, taken, alpha=-1)
        self._units = self._units[kept]
        self._place()

    def _place(self) -> None:
        """Note where each unit's columns are now."""
        self._columns: dict[int, list[int]] = defaultdict(list)
        for column, unit in enumerate(self._units.tolist()):
            if unit >= 0:
                self._columns[unit].append(column)
        alike: dict[int, list[int]] = defaultdict(list)
        for unit, columns in self._columns.items():
            alike[len(columns)].append(unit)
        self._alike = [
            _Blocks.of(units, [self._columns[u] for u in units], self._inverse, self._weights)
            for units in alike.values()
        ]
        most = max(LATE, self._most_at_a_time * max(alike)) if alike else LATE
        self._late = torch.zeros(3, most, len(self._units), dtype=torch.float64)
        self._filled = 0


@dataclass(frozen=True)
class _Blocks:
    """Units (n,) with equally many columns (n, b), and what a layer's matrices hold for each alone: (n, b, b)."""

    units: Tensor
    columns: Tensor
    inverse: Tensor
    weights: Tensor

    @classmethod
    def of(cls, units: Sequence[int], columns: Sequence[Sequence[int]], inverse: Tensor, weights: Tensor) -> "_Blocks":
        at = torch.tensor(columns)
        down, across = at[:, :, None], at[:, None, :]
        return cls(torch.tensor(units), at, inverse[down, across], weights[down, across])

    def remove(self, units: Sequence[int], back: Tensor, rows: Tensor, across: Tensor) -> None:
        """In place."""
        taken, moved, given = (each[:, self.columns] for each in (back, rows, across))
        mixed = torch.einsum("rni,rnj->nij", taken, moved)
        self.weights.sub_(mixed + mixed.transpose(1, 2))
        self.inverse.sub_(torch.einsum("rni,rnj->nij", given, taken))
        gone = torch.isin(self.units, torch.tensor(units))
        self.weights[gone] = 0.0
        self.inverse[gone] = torch.eye(self.columns.shape[1], dtype=torch.float64)

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

RIDGE = 1e-3  # of the mean square a column: towards the weights as they are
CONSTANT = 1e-12  # of the largest square: a column that varies less does not vary


@dataclass(frozen=True)
class ConsumerStatistics:
    """gram: second moment of the columns that a layer reads, about their mean where it has an intercept -> (C, C).
    weights: W^T W of its weights (rows, C). units: the unit of each column; -1 for one that stays.
    """

    gram: Tensor
    weights: Tensor
    units: tuple[int, ...]


def surgeon_importance(consumers: Sequence[ConsumerStatistics], size: int, blocks: int = 1) -> Tensor:
    """Error of all consumers, each as a share of its output's energy, once a unit and all that matter less are gone ->
    (size,), float64. From each of ``blocks`` equal runs of units equally many go, one of each in turn.
    """
    refitted = [fit for consumer in consumers if (fit := _Refitted(consumer, size)).energy > 0]
    values, removed = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.bool)
    total = 0.0
    for _ in range(size):
        gone = removed.view(blocks, -1).sum(1)
        allowed = ~removed & (gone == gone.min()).repeat_interleave(size // blocks)
        added = sum((fit.added() for fit in refitted), torch.zeros(size, dtype=torch.float64))
        unit = int(added.where(allowed, math.inf).argmin())
        total = max(total + float(added[unit]), math.nextafter(total, math.inf))  # units that cost nothing keep order
        values[unit], removed[unit] = total, True
        for fit in refitted:
            fit.remove(unit)
    return values


class _Refitted:
    """A layer that reads ever fewer columns, and is refitted to them."""

    def __init__(self, consumer: ConsumerStatistics, size: int) -> None:
        gram, squares = consumer.gram.double(), consumer.gram.diagonal().double()
        self.energy = float((gram * consumer.weights.double()).sum())
        varies = squares > CONSTANT * squares.max()
        self.weights = consumer.weights.double() * varies * varies[:, None]
        ridge = RIDGE * squares[varies].mean() if varies.any() else torch.ones(())
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram + ridge * torch.eye(len(gram)).double()))
        self.units, self._size = torch.tensor(consumer.units), size
        self._place()

    def _place(self) -> None:
        """Where each unit's columns are, by how many it has: the units (n,) and their columns (n, many)."""
        self._columns: dict[int, list[int]] = defaultdict(list)
        for column, unit in enumerate(self.units.tolist()):
            if unit >= 0:
                self._columns[unit].append(column)
        alike: dict[int, list[int]] = defaultdict(list)
        for unit, columns in self._columns.items():
            alike[len(columns)].append(unit)
        self._alike = [(torch.tensor(us), torch.tensor([self._columns[u] for u in us])) for us in alike.values()]
        self._gone = 0

    def added(self) -> Tensor:
        """By how much the error rises when a unit goes -> (size,); 0 for one that it does not read."""
        found = torch.zeros(self._size, dtype=torch.float64)
        for units, columns in self._alike:
            if columns.shape[1] == 1:
                at = columns[:, 0]
                found[units] = self.weights.diagonal()[at] / self.inverse.diagonal()[at]
            else:
                rows, across = columns[:, :, None], columns[:, None, :]
                solved = torch.linalg.solve(self.inverse[rows, across], self.weights[rows, across])
                found[units] = solved.diagonal(dim1=1, dim2=2).sum(1)
        return found.clamp(min=0.0) / self.energy

    def remove(self, unit: int) -> None:
        columns = self._columns.get(unit)
        if columns is None:
            return
        across = self.inverse[columns]
        back = torch.linalg.solve(across[:, columns], across)  # of the removed weights, what the others take over
        self.inverse.addmm_(across.T, back, alpha=-1)
        self.weights.addmm_(self.weights[:, columns], back, alpha=-1)
        self.weights.addmm_(back.T, self.weights[columns], alpha=-1)
        for matrix in (self.inverse, self.weights):
            matrix[columns] = matrix[:, columns] = 0.0
        self.inverse[columns, columns] = 1.0
        self.units[columns] = -2
        self._gone += len(columns)
        if 4 * self._gone > len(self.units):
            kept = (self.units != -2).nonzero()[:, 0]
            self.inverse, self.weights = (m[kept][:, kept].contiguous() for m in (self.inverse, self.weights))
            self.units = self.units[kept]
            self._place()

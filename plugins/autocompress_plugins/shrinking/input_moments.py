"""Second moments of what a layer multiplies its weights with, over some of its places: examples, steps of a sequence or
pixels. Each call of the layer adds rows (rows, columns), taken from what it is given and what it gives.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autocompress.nested import primary
from autocompress_plugins.shrinking.surgeon import CONSTANT

MOST_ROWS = 2048  # of one call, and at least one a column; neighbouring places are much alike

Pick = Callable[[int], Tensor]  # of so many places: the numbers of those that are picked
Rows = Callable[[tuple[Any, ...], Any, Pick], Tensor]


class InputMoments:
    """centred: about the mean, which an intercept makes up for."""

    def __init__(self, width: int, centred: bool) -> None:
        self.count, self.centred = 0, centred
        self._most, self._chance = max(MOST_ROWS, width), torch.Generator().manual_seed(0)
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._products = torch.zeros(width, width, dtype=torch.float64)

    def pick(self, count: int) -> Tensor:
        """All, or some by chance: at equal distances they could lie in one column of an image."""
        if count <= self._most:
            return torch.arange(count)
        return torch.randint(count, (self._most,), generator=self._chance)

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        self.count += len(rows)
        self._sum += rows.sum(0)
        self._products.addmm_(rows.T, rows)

    def gram(self) -> Tensor:
        """Without what rounding leaves of columns that are constant. Nothing can be added any more."""
        gram = self._products.div_(self.count)
        if not self.centred:
            return gram
        squares, mean = gram.diagonal().clone(), self._sum / self.count
        gram -= torch.outer(mean, mean)
        constant = gram.diagonal() <= CONSTANT * squares
        gram[constant] = gram[:, constant] = 0.0
        return gram


def features(given: tuple[Any, ...], gave: Any, pick: Pick) -> Tensor:
    """Of what is given, (..., columns)."""
    return _some(given[0], pick)


def states(own: slice) -> Rows:
    """Of the first that the layer gives, (..., columns): what a recurrent layer gives itself a step later."""
    return lambda given, gave, pick: _some(primary(gave)[..., own], pick)


def channels(own: slice) -> Rows:
    """Of what is given, (N, columns, ...)."""
    return lambda given, gave, pick: _some(given[0][:, own].movedim(1, -1), pick)


def pixels(places: int) -> Rows:
    """Of what is given, (..., columns x places)."""
    return lambda given, gave, pick: _some(given[0].unflatten(-1, (-1, places)).transpose(-1, -2), pick)


def _some(columns: Tensor, pick: Pick) -> Tensor:
    """Of (..., columns), or a packed sequence of them; no copy is made of the whole."""
    columns = columns.data[None]
    places = columns.shape[:-1]
    return columns[torch.unravel_index(pick(places.numel()), places)]

"""What a layer multiplies its weights with, as rows: at all its places, or at as many, by chance, as are wanted.

Each function gives one for a kind of layer: of what the layer is given, what it gives and how many rows are wanted ->
(rows, columns). The same call picks the same places.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Rows = Callable[[tuple[Any, ...], Any, int], Tensor]


def features(given: tuple[Any, ...], gave: Any, most: int) -> Tensor:
    """Of what is given, (..., columns)."""
    return _some(given[0], most)


def states(own: slice) -> Rows:
    """Of the first that the layer gives, (..., columns): what a recurrent layer gives itself a step later."""
    return lambda given, gave, most: _some(gave[0][..., own], most)


def channels(own: slice) -> Rows:
    """Of what is given, (N, columns, ...)."""
    return lambda given, gave, most: _some(given[0][:, own].movedim(1, -1), most)


def pixels(places: int) -> Rows:
    """Of what is given, (..., columns x places)."""
    return lambda given, gave, most: _some(given[0].unflatten(-1, (-1, places)).transpose(-1, -2), most)


def has_windows(layer: Any) -> bool:
    """Whether a convolution reads plain windows of its input, with zeros around it."""
    return not layer.transposed and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def windows(layer: Any, own: slice) -> Rows:
    """Of what is given, (N, C, ...): what the kernel sees of the channels ``own`` -> (rows, C x places)."""

    def rows(given: tuple[Any, ...], gave: Tensor, most: int) -> Tensor:
        x = F.pad(given[0], [pad for pad in reversed(layer.padding) for _ in range(2)])[:, own]
        sizes = (len(gave), *gave.shape[2:])
        count = len(gave) * gave[0, 0].numel()
        example, *start = torch.unravel_index(_places(count, most), sizes)
        first = [at * stride for at, stride in zip(start, layer.stride, strict=True)]
        seen = [
            x[(example, slice(None), *(at + o * d for at, o, d in zip(first, offset, layer.dilation, strict=True)))]
            for offset in itertools.product(*(range(size) for size in layer.kernel_size))
        ]
        return torch.stack(seen, -1).flatten(1)

    return rows


def _some(columns: Tensor, most: int) -> Tensor:
    rows = columns.flatten(0, -2)
    return rows[_places(len(rows), most)] if len(rows) > most else rows


def _places(count: int, most: int) -> Tensor:
    """All, or some by chance: at equal distances they could lie in one column of an image."""
    if count <= most:
        return torch.arange(count)
    return torch.randint(count, (most,), generator=torch.Generator().manual_seed(0))

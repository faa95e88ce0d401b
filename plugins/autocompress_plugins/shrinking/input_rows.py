"""What a layer multiplies its weights with, as rows (rows, columns): one for each of the places that are picked.

A place is an example, a step of a sequence or a pixel. Rows are taken from what a layer is given and what it gives.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pick = Callable[[int], Tensor]  # of so many places: the numbers of those that are picked
Rows = Callable[[tuple[Any, ...], Any, Pick], Tensor]


def features(given: tuple[Any, ...], gave: Any, pick: Pick) -> Tensor:
    """Of what is given, (..., columns)."""
    return _some(given[0], pick)


def states(own: slice) -> Rows:
    """Of the first that the layer gives, (..., columns): what a recurrent layer gives itself a step later."""
    return lambda given, gave, pick: _some(gave[0][..., own], pick)


def channels(own: slice) -> Rows:
    """Of what is given, (N, columns, ...)."""
    return lambda given, gave, pick: _some(given[0][:, own].movedim(1, -1), pick)


def pixels(places: int) -> Rows:
    """Of what is given, (..., columns x places)."""
    return lambda given, gave, pick: _some(given[0].unflatten(-1, (-1, places)).transpose(-1, -2), pick)


def has_windows(layer: Any) -> bool:
    """Whether a convolution reads plain windows of its input, with zeros around it."""
    return not layer.transposed and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def windows(layer: Any, own: slice) -> Rows:
    """Of what is given, (N, C, ...): what the kernel sees of the channels ``own`` -> (rows, C x places)."""

    def rows(given: tuple[Any, ...], gave: Tensor, pick: Pick) -> Tensor:
        x = F.pad(given[0], [pad for pad in reversed(layer.padding) for _ in range(2)])[:, own]
        sizes = (len(gave), *gave.shape[2:])
        count = len(gave) * gave[0, 0].numel()
        example, *start = torch.unravel_index(pick(count), sizes)
        first = [at * stride for at, stride in zip(start, layer.stride, strict=True)]
        seen = [
            x[(example, slice(None), *(at + o * d for at, o, d in zip(first, offset, layer.dilation, strict=True)))]
            for offset in itertools.product(*(range(size) for size in layer.kernel_size))
        ]
        return torch.stack(seen, -1).flatten(1)

    return rows


def _some(columns: Tensor, pick: Pick) -> Tensor:
    rows = columns.flatten(0, -2)
    return rows[pick(len(rows))]

"""How long each example of a split is, where they differ."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from autocompress.data.batch import Batch, named_inputs
from autocompress.data.layout import Axes
from autocompress.data.split import Split, spread

MASKS_AT_ONCE = 64  # examples
FEWEST_PLACES = 3  # of a mask: two numbers are two marks of an example


def lengths_of(split: Split, free: Axes, seconds: float) -> Tensor | None:
    """(N,), int64: of an input that is a mask, ones where an example is and zeros where it is padded, how many ones;
    else, where a loader pads each batch, the size of an example read alone along the first axis that is ``free``. None
    where all are as long, nothing tells, or reading takes more than so many seconds.
    """
    mask = _mask_in(split.take(spread(len(split), MASKS_AT_ONCE)))
    if mask is not None:
        pieces = (named_inputs(batch.inputs)[mask].long().sum(1) for batch in split.batches(MASKS_AT_ONCE))
    elif free and split.memory is None:
        name, axes = next(iter(free.items()))
        alone = (split.take(torch.tensor([number])) for number in range(len(split)))
        pieces = (torch.tensor([named_inputs(one.inputs)[name].shape[min(axes)]]) for one in alone)
    else:
        return None
    found = _within(seconds, pieces)
    return found if found is not None and int(found.min()) < int(found.max()) else None


def _within(seconds: float, pieces: Iterator[Tensor]) -> Tensor | None:
    began, found = time.monotonic(), list[Tensor]()
    for piece in pieces:
        found.append(piece)
        if time.monotonic() - began > seconds:
            return None
    return torch.cat(found)


def _mask_in(batch: Batch) -> str | None:
    """The name of the first input that is one: (N, L) of zeros and ones, at least a one in each row, and those of an
    example side by side.
    """
    for name, tensor in named_inputs(batch.inputs).items():
        if tensor.dim() != 2 or tensor.shape[1] < FEWEST_PLACES or not bool(((tensor == 0) | (tensor == 1)).all()):
            continue
        counts, changes = tensor.long().sum(1), (tensor.long().diff(dim=1) != 0).sum(1)
        if bool((changes <= 1).all()) and 0 < int(counts.min()) < int(counts.max()):
            return name
    return None

"""How long each example of a split is, where they differ."""

import time

import torch
from torch import Tensor

from autocompress.data.batch import Batch, named_inputs
from autocompress.data.layout import Axes
from autocompress.data.split import Split

MASKS_AT_ONCE = 64  # examples
READ_ALONE_S = 3.0  # that examples may take to be read one by one


def lengths_of(split: Split, free: Axes) -> Tensor | None:
    """(N,), int64: of an input that is a mask, ones where an example is and zeros where it is padded, how many ones;
    else, where a loader pads each batch, the size of an example read alone along the first axis that is ``free``. None
    where all are as long, nothing tells, or reading takes long.
    """
    first = split.take(torch.arange(min(MASKS_AT_ONCE, len(split))))
    if (mask := _mask_in(first)) is not None:
        found = torch.cat([named_inputs(batch.inputs)[mask].long().sum(1) for batch in split.batches(MASKS_AT_ONCE)])
    elif free and split.memory is None:
        name, axes = next(iter(free.items()))
        began, sizes = time.monotonic(), list[int]()
        for number in range(len(split)):
            if time.monotonic() - began > READ_ALONE_S:
                return None
            sizes.append(named_inputs(split.take(torch.tensor([number])).inputs)[name].shape[min(axes)])
        found = torch.tensor(sizes)
    else:
        return None
    return found if int(found.min()) < int(found.max()) else None


def _mask_in(batch: Batch) -> str | None:
    """The name of the first input that is one: (N, L) of zeros and ones, and those of an example side by side."""
    for name, tensor in named_inputs(batch.inputs).items():
        if tensor.dim() != 2 or not bool(((tensor == 0) | (tensor == 1)).all()) or bool((tensor == 1).all()):
            continue
        if bool(((tensor.long().diff(dim=1) != 0).sum(1) <= 1).all()):
            return name
    return None

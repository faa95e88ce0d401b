"""Batches as a runtime takes them: arrays by the names of the graph's inputs, at the profile's batch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import torch

from autocompress.data.batch import Batch, input_names, map_inputs, tensors_of
from autocompress.data.split import Split
from autocompress.task import Inputs

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]


def feed_of(inputs: Inputs, names: Sequence[str]) -> Feed:
    """The runtime's inputs by name. ``names`` are the graph's, in order; a dict is matched by name."""
    values = dict(zip(input_names(inputs), tensors_of(inputs), strict=True))
    ordered = list(values.values())
    return {name: (values[name] if name in values else ordered[i]).numpy() for i, name in enumerate(names)}


def padded(batch: Batch, size: int) -> Inputs:
    """The batch's inputs, the last example repeated up to ``size``: a graph has the profile's batch built in."""
    missing = size - len(batch.targets)
    if missing == 0:
        return batch.inputs
    return map_inputs(lambda t: torch.cat([t, t[-1:].expand(missing, *t.shape[1:])]), batch.inputs)


def profile_inputs(split: Split, batch: int, batches: int) -> Iterator[Inputs]:
    """The first inputs of a split at the profile's batch, the last example repeated when the split is too small."""
    for number in range(batches):
        indices = torch.arange(number * batch, (number + 1) * batch) % len(split)
        yield map_inputs(lambda t: t.contiguous(), padded(split.take(indices), batch))

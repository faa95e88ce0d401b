"""Batches as a runtime takes them: arrays by the names of the graph's inputs, at the profile's batch."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from autocompress.arrays import Array
from autocompress.data.batch import Batch, named_inputs
from autocompress.data.dynamic import resized
from autocompress.data.layout import OutputLayout
from autocompress.data.split import Split
from autocompress.nested import map_tensors
from autocompress.profile import HardwareProfile
from autocompress.task import Inputs

Feed = Mapping[str, Array]


def feed_of(inputs: Inputs, names: Sequence[str] | None = None) -> Feed:
    """The runtime's inputs by name. ``names`` are the graph's, in order; a dict is matched by name. None: the names
    that an exported file gets.
    """
    values = named_inputs(inputs)
    if names is None:
        names = list(values)
    ordered = list(values.values())
    return {name: (values[name] if name in values else ordered[i]).numpy() for i, name in enumerate(names)}


def padded(batch: Batch, size: int) -> Inputs:
    """The batch's inputs, the last example repeated up to ``size``: a graph has the profile's batch built in."""
    missing = size - len(batch)
    if missing == 0:
        return batch.inputs
    return map_tensors(lambda t: torch.cat([t, t[-1:].expand(missing, *t.shape[1:])]), batch.inputs)


def profile_inputs(split: Split, profile: HardwareProfile, layout: OutputLayout, batches: int) -> Iterator[Inputs]:
    """The first inputs of a split at the profile's batch, the last example repeated when the split is too small; where
    the profile gives sizes (``shapes``), cut to them or their last place repeated, each batch for one shape after
    another.
    """
    batch = profile.batch
    for number in range(batches):
        indices = torch.arange(number * batch, (number + 1) * batch) % len(split)
        inputs = padded(split.take(indices), batch)
        for sizes in profile.sizes:
            yield map_tensors(lambda t: t.contiguous(), resized(inputs, layout.dynamic, sizes))


def spread_feeds(split: Split, batch: int, count: int) -> Iterator[Feed]:
    """Up to ``count`` examples, spread over the split, at a batch that the last example fills up."""
    for some in split.sampled(count).batches(batch):
        yield feed_of(padded(some, batch))


def feeds_to_store(inputs: Sequence[Inputs]) -> dict[str, Tensor]:
    """Feeds as an entry of the store: tensors by ``number/name``."""
    return {f"{n}/{name}": tensor for n, one in enumerate(inputs) for name, tensor in named_inputs(one).items()}


def stored_feeds(tensors: Mapping[str, Tensor]) -> list[Feed]:
    """The feeds of such an entry, in order."""
    feeds: dict[str, dict[str, Array]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition("/")
        feeds.setdefault(number, {})[name] = tensor.numpy()
    return [feeds[number] for number in sorted(feeds, key=int)]

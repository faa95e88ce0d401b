"""The user's data as the search reads it: one split, indexable, checked once.

A split held in memory is a pair of tensors. A Dataset is read into memory once when it is deterministic and fits;
otherwise it stays a Dataset and batches are collated from it.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
    default_collate,
)

from autocompress.data.batch import Batch, as_held, map_inputs, tensors_of
from autocompress.data.split import SAMPLE, Split
from autocompress.errors import UsageError, one_line

IN_MEMORY_BYTES = 4 << 30
WHOLE = (SequentialSampler, RandomSampler, WeightedRandomSampler)  # samplers that draw from the whole data set


def open_split(name: str, source: Any, in_memory_bytes: int = IN_MEMORY_BYTES) -> Split:
    """A split from tensors, a Dataset or a DataLoader. Raises UsageError when it is none of these, empty or ragged.

    in_memory_bytes: a Dataset that is larger is read batch by batch.
    """
    if isinstance(source, IterableDataset):
        source = DataLoader(source, batch_size=512)
    if isinstance(source, DataLoader):
        dataset = source.dataset
        if isinstance(dataset, IterableDataset) or source.batch_sampler is None or not isinstance(dataset, Sized):
            return _in_memory(name, _concatenate(name, [_pair(name, batch) for batch in source]))
        if type(source.batch_sampler) is not BatchSampler:
            dataset = Subset(dataset, sorted({index for batch in source.batch_sampler for index in batch}))
        elif type(source.sampler) not in WHOLE:
            dataset = Subset(dataset, sorted(set(source.sampler)))
        return _from_dataset(name, dataset, source.collate_fn or default_collate, in_memory_bytes)
    if isinstance(source, (tuple, list)) and len(source) == 2 and not isinstance(source, Dataset):
        return _in_memory(name, _pair(name, source))
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _from_dataset(name, source, default_collate, in_memory_bytes)
    raise UsageError(
        f"the {name} split is {type(source).__name__}: give (inputs, targets) tensors, a Dataset or a DataLoader"
    )


def _from_dataset(name: str, dataset: Any, collate: Callable[[list[Any]], Any], in_memory_bytes: int) -> Split:
    def collect(indices: Sequence[int]) -> Batch:
        try:
            return _pair(name, collate([dataset[i] for i in indices]))
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"the {name} split cannot be read at {indices[0]}..{indices[-1]}: "
                f"{type(error).__name__}: {one_line(error)}"
            ) from error

    size = len(dataset)
    if size == 0:
        raise UsageError(f"the {name} split is empty")
    lazy = Split(name, size, collect)
    first = lazy.take(torch.arange(min(size, SAMPLE)))
    each = sum(t.element_size() * t.numel() for t in (*tensors_of(first.inputs), first.targets)) / min(size, SAMPLE)
    if each * size > in_memory_bytes or lazy.sample_digest() != lazy.sample_digest():
        return lazy
    return _in_memory(name, _concatenate(name, list(lazy.batches(512))))


def _in_memory(name: str, batch: Batch) -> Split:
    return Split(name, len(batch.targets), lambda indices: batch, batch)


def _pair(name: str, pair: Any) -> Batch:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UsageError(f"the {name} split must give (inputs, targets) pairs, not {type(pair).__name__}")
    inputs, targets = pair
    targets = _tensor(name, "targets", targets)
    if isinstance(inputs, Mapping):
        inputs = {str(key): _tensor(name, f"input {key}", value) for key, value in inputs.items()}
    elif isinstance(inputs, (tuple, list)):
        inputs = tuple(_tensor(name, f"input {i}", value) for i, value in enumerate(inputs))
    else:
        inputs = _tensor(name, "inputs", inputs)
    sizes = [len(t) if t.dim() else 0 for t in (*tensors_of(inputs), targets)]
    if len(set(sizes)) != 1:
        counts = " and ".join(map(str, sizes[:-1]))
        raise UsageError(f"the {name} split has {counts} inputs and {sizes[-1]} targets: they must be as many")
    if sizes[0] == 0:
        raise UsageError(f"the {name} split is empty")
    return Batch(map_inputs(as_held, inputs), targets.detach().cpu())


def _tensor(name: str, what: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"the {name} split: its {what} cannot become a tensor: {one_line(error, 120)}") from error


def _concatenate(name: str, batches: list[Batch]) -> Batch:
    if not batches:
        raise UsageError(f"the {name} split is empty")
    try:
        columns = [torch.cat(parts) for parts in zip(*(tensors_of(b.inputs) for b in batches), strict=True)]
        targets = torch.cat([b.targets for b in batches])
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the {name} split has examples of different shapes: {one_line(error)}; pad them to one shape"
        ) from error
    values = iter(columns)
    return Batch(map_inputs(lambda _: next(values), batches[0].inputs), targets)

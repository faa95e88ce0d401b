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

from autocompress.data.batch import Batch, PerExample, as_held, as_target, joined_batches
from autocompress.data.split import SAMPLE, Split
from autocompress.errors import UsageError, one_line
from autocompress.nested import Nested, map_tensors, tensors_of

IN_MEMORY_BYTES = 4 << 30
WHOLE = (SequentialSampler, RandomSampler, WeightedRandomSampler)  # samplers that draw from the whole data set
LABELS = ("labels", "label", "targets", "target")  # the entry of a dict batch that holds the targets

AsPair = Callable[[Any], Any]  # what the loader gives -> (inputs, targets)


def open_split(name: str, source: Any, as_pair: AsPair | None = None, in_memory_bytes: int = IN_MEMORY_BYTES) -> Split:
    """A split from tensors, a Dataset or a DataLoader. Raises UsageError when it is none of these, empty or ragged.

    as_pair: of what the source gives, as in ``Task.batch``. in_memory_bytes: a Dataset that is larger is read batch by
    batch.
    """
    if isinstance(source, IterableDataset):
        source = DataLoader(source, batch_size=512)
    if isinstance(source, DataLoader):
        dataset = source.dataset
        if isinstance(dataset, IterableDataset) or source.batch_sampler is None or not isinstance(dataset, Sized):
            return _in_memory(name, _concatenate(name, [_pair(name, batch, as_pair) for batch in source]))
        if type(source.batch_sampler) is not BatchSampler:
            dataset = Subset(dataset, sorted({index for batch in source.batch_sampler for index in batch}))
        elif type(source.sampler) not in WHOLE:
            dataset = Subset(dataset, sorted(set(source.sampler)))
        return _from_dataset(name, dataset, source.collate_fn or default_collate, as_pair, in_memory_bytes)
    if isinstance(source, (tuple, list)) and len(source) == 2 and not isinstance(source, Dataset):
        return _in_memory(name, _pair(name, source, as_pair))
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _from_dataset(name, source, default_collate, as_pair, in_memory_bytes)
    raise UsageError(
        f"the {name} split is {type(source).__name__}: give (inputs, targets) tensors, a Dataset or a DataLoader"
    )


def _from_dataset(
    name: str, dataset: Any, collate: Callable[[list[Any]], Any], as_pair: AsPair | None, in_memory_bytes: int
) -> Split:
    def collect(indices: Sequence[int]) -> Batch:
        try:
            return _pair(name, collate([dataset[i] for i in indices]), as_pair)
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
    if first.bytes_each * size > in_memory_bytes or lazy.sample_digest() != lazy.sample_digest():
        return lazy
    return _in_memory(name, _concatenate(name, list(lazy.batches(512))))


def _in_memory(name: str, batch: Batch) -> Split:
    return Split(name, len(batch), lambda indices: batch, batch)


def _pair(name: str, given: Any, as_pair: AsPair | None = None) -> Batch:
    if as_pair is not None:
        try:
            given = as_pair(given)
        except Exception as error:  # the user's function raises anything
            raise UsageError(
                f"Task.batch on the {name} split raises {type(error).__name__}: {one_line(error)}"
            ) from error
    if isinstance(given, Mapping) and (labels := next((key for key in LABELS if key in given), None)):
        given = {key: value for key, value in given.items() if key != labels}, given[labels]
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        entries = f" with {', '.join(map(str, given))}" if isinstance(given, Mapping) else ""
        raise UsageError(
            f"the {name} split must give (inputs, targets) pairs, or dicts with {' or '.join(LABELS[:2])} inside, not "
            f"{type(given).__name__}{entries}: make them in Task.batch or the loader's collate_fn"
        )
    inputs = _tensors(name, "inputs", given[0])
    inputs = tuple(inputs) if type(inputs) is list else dict(inputs) if isinstance(inputs, Mapping) else inputs
    inputs = map_tensors(as_held, inputs)
    sizes = _sizes(inputs)
    targets = _targets(name, given[1], sizes[0] if sizes else 0)
    whole = _sizes(targets)
    if len({*sizes, *whole}) != 1:
        counts, wanted = (" and ".join(map(str, dict.fromkeys(found))) or "no" for found in (sizes, whole))
        raise UsageError(f"the {name} split has {counts} inputs and {wanted} targets: they must be as many")
    if sizes[0] == 0:
        raise UsageError(f"the {name} split is empty")
    return Batch(inputs, targets)


def _sizes(value: Nested) -> list[int]:
    """How many examples each tensor holds."""
    if isinstance(value, PerExample):
        return [len(value)]
    return [len(t) if t.dim() else 0 for t in tensors_of(value)]


def _targets(name: str, given: Any, count: int) -> Nested:
    """Tensors, or one value an example where the user gives a list of them that are no numbers."""
    by_example = isinstance(given, (list, tuple)) and len(given) == count
    if by_example and not all(isinstance(each, (int, float, bool)) for each in given):
        values = [_tensors(name, "targets", each) for each in given]
        if not all(isinstance(each, Tensor) for each in values) or len({each.shape for each in values}) > 1:
            return PerExample(map_tensors(as_target, each) for each in values)
    return map_tensors(as_target, _tensors(name, "targets", given))


def _tensors(name: str, what: str, value: Any) -> Nested:
    """The value with its arrays, and lists of numbers, as tensors."""
    if isinstance(value, Tensor) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): _tensors(name, f"{what} {key}", inner) for key, inner in value.items()}
    numbers = not isinstance(value, (tuple, list)) or all(isinstance(each, (int, float, bool)) for each in value)
    if numbers and not hasattr(value, "__dataclass_fields__"):
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(f"the {name} split: its {what} cannot become a tensor: {one_line(error, 120)}") from error
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(_tensors(name, f"{what} {i}", inner) for i, inner in enumerate(value))
    return value


def _concatenate(name: str, batches: list[Batch]) -> Batch:
    if not batches:
        raise UsageError(f"the {name} split is empty")
    try:
        return joined_batches(batches)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the {name} split has examples of different shapes: {one_line(error)}; pad them to one shape"
        ) from error

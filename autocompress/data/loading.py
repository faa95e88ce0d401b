"""The user's data as the search reads it: one split, examples by index.

Tensors are held as they are. A Dataset that gives the same examples each time is held in memory where it is small and
quickly read; otherwise what was decoded is kept on disk, and one that gives others each time is read each time. What
has no end is read on from (``endless``).
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence, Sized
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from autocompress.data.batch import Batch
from autocompress.data.conversion import AsPair, batch_of
from autocompress.data.dataset_reader import DatasetReader
from autocompress.data.drawing import Drawing, drawing_of, drawn_set
from autocompress.data.endless import ExampleStream, GeneratedExamples, whole_of
from autocompress.data.example_cache import ExampleCache
from autocompress.data.reading import Reading
from autocompress.data.split import Split, spread
from autocompress.errors import DataError, UsageError
from autocompress.nested import Nested, tensors_of
from autocompress.storage.atomic import UNFINISHED

READ_TWICE = 16  # examples: a random one of two views is the same in all of them once in 65,000 times
READ_INTO_MEMORY = 64
UNSURE = 4  # times as long as a Dataset that is held in memory may take to read
WORTH_SCORING = 2000  # examples: of which a share of right answers is known within two points or so
ITERATED = 64  # examples of a batch of a bare IterableDataset


def open_split(name: str, source: Any, as_pair: AsPair | None = None, reading: Reading = Reading()) -> Split:
    """A split from tensors, a Dataset, a DataLoader or a generator. Raises UsageError when it is none of these, empty
    or ragged.

    as_pair: of what the source gives, as in ``Task.batch``.
    """
    if isinstance(source, DataLoader):
        dataset = source.dataset
        if isinstance(dataset, IterableDataset) or source.batch_sampler is None or not isinstance(dataset, Sized):
            return _from_iterable(name, source, as_pair, reading, _batch_size(source), sized=_is_sized(source))
        return _from_dataset(name, dataset, as_pair, reading, source)
    if isinstance(source, IterableDataset):
        return _from_iterable(name, DataLoader(source, ITERATED), as_pair, reading, None, sized=_is_sized(source))
    if isinstance(source, Iterator):
        return _from_iterable(name, GeneratedExamples(source, default_collate), as_pair, reading, None, sized=False)
    if isinstance(source, Mapping) or (
        isinstance(source, (tuple, list)) and len(source) == 2 and not isinstance(source, Dataset)
    ):
        return _in_memory(name, batch_of(name, source, as_pair))
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _from_dataset(name, source, as_pair, reading)
    raise UsageError(
        f"the {name} split is {type(source).__name__}: give (inputs, targets) tensors, a Dataset or a DataLoader"
    )


def _from_dataset(name: str, dataset: Any, as_pair: AsPair | None, reading: Reading, loader: Any = None) -> Split:
    if len(dataset) == 0:
        raise DataError(f"the {name} split is empty")
    numbers = None if loader is None else drawn_set(name, loader, len(dataset))
    reader = DatasetReader(name, dataset, as_pair, loader, numbers, reading.say)
    size = len(reader)
    drawing = None if loader is None else drawing_of(name, loader, len(dataset), numbers)
    cache = None if reading.folder is None else ExampleCache(reading.folder / f"{UNFINISHED}examples-{name}", size)
    looked_at = spread(size, READ_TWICE).tolist()
    reader.keep_in(cache)
    first = reader.take(looked_at)
    reader.keep_in(None)
    began = time.monotonic()
    steady = _is_same(first, reader.take(looked_at))
    whole_s = _whole_s(began, reader, looked_at)
    if reading.whole_s < whole_s < UNSURE * reading.whole_s:  # it may have been a bad moment
        began = time.monotonic()
        reader.take(looked_at)
        whole_s = min(whole_s, _whole_s(began, reader, looked_at))
    reader.steady = steady
    reader.keep_in(cache if steady else None)
    by_rows = steady and _is_by_rows(first, map(reader.take, ([row] for row in looked_at)))
    held = None
    if by_rows and whole_s <= reading.whole_s and first.bytes_each * size <= reading.most_bytes:
        held = _read_whole(reader, reading)
    if cache is not None and not steady:
        cache.discard()
    elif cache is not None and (held or _is_dearer(cache, looked_at, whole_s / size * max(1, reader.workers))):
        reader.keep_in(None)  # here: another process may find it worth it
    return Split(
        name,
        size,
        reader.take,
        held,
        read=reader.read,
        drawing=drawing,
        batch_size=_batch_size(loader) or _usual_size(drawing),
        steady=steady,
        by_rows=by_rows,
        seconds_each=0.0 if held else whole_s / size,
    )


def _whole_s(began: float, reader: DatasetReader, looked_at: Sequence[int]) -> float:
    """Seconds to read all examples, with the loader's workers, as told by those that were read since ``began``."""
    return (time.monotonic() - began) / len(looked_at) * len(reader) / max(1, reader.workers)


def _is_dearer(cache: ExampleCache, rows: Sequence[int], seconds: float) -> bool:
    """Whether examples that are kept take longer to get than so many seconds, in which they are read anew."""
    began, kept = time.monotonic(), [row for row in rows if cache.has(row)]
    for row in kept:
        cache.get(row)
    return bool(kept) and (time.monotonic() - began) / len(kept) >= seconds


def _read_whole(reader: DatasetReader, reading: Reading) -> Batch | None:
    """None where examples turn out to have several shapes, which the user's collate function pads."""
    size, batches = len(reader), list[Batch]()
    for batch in reader.read(
        range(start, min(start + READ_INTO_MEMORY, size)) for start in range(0, size, READ_INTO_MEMORY)
    ):
        reading.check()
        batches.append(batch)
    try:
        return whole_of(reader.name, batches)
    except DataError:
        return None


def _from_iterable(
    name: str, source: Any, as_pair: AsPair | None, reading: Reading, batch_size: int | None, *, sized: bool
) -> Split:
    """A set of examples when it ends, within the bounds or because it has a length; otherwise a stream, which trains
    and is not scored.
    """
    trains = name == "train"
    stream = ExampleStream(name, source, as_pair)
    head = reading.stream_head if trains else None
    limit_s = reading.ends_s if trains else math.inf if sized else reading.scored_s
    if head == 0:
        limit_s *= reading.slower
    first = stream.first(limit_s, reading.most_bytes, reading.check, head or None)
    if first.ended:
        return _in_memory(name, whole_of(name, first.batches), batch_size, iterated=trains)
    if not trains:
        raise DataError(
            f"the {name} split has not ended after {first.examples} examples ({first.seconds:.0f} s), and what has no "
            f"end cannot be scored: give the first {WORTH_SCORING} or so of it (itertools.islice in its __iter__), or "
            "a Dataset"
        )
    held = stream.read_on_from(first, head or None)
    reading.say(
        f"the {name} split has not ended after {first.examples} examples: it is read on as training needs, and its "
        f"first {len(held)} are what plans and calibration look at"
    )
    return Split(name, len(held), lambda indices: held, held, batch_size=batch_size, stream=stream, iterated=True)


def _in_memory(name: str, batch: Batch, batch_size: int | None = None, *, iterated: bool = False) -> Split:
    return Split(name, len(batch), lambda indices: batch, batch, batch_size=batch_size, iterated=iterated)


def _batch_size(loader: Any) -> int | None:
    """What training keeps to; a loader's default of 1 says nothing."""
    size = getattr(loader, "batch_size", None)
    return size if isinstance(size, int) and size > 1 else None


def _usual_size(drawing: Drawing | None) -> int | None:
    """Of the batches that a batch sampler of the user's own makes."""
    order = None if drawing is None else drawing.epoch(0, 0)
    return round(len(order.rows) / len(order.ends)) if order is not None and order.ends else None


def _is_sized(source: Any) -> bool:
    try:
        len(source)
    except TypeError:
        return False
    return True


def _is_same(one: Batch, other: Batch) -> bool:
    return _alike((one.inputs, one.targets), (other.inputs, other.targets))


def _is_by_rows(together: Batch, alone: Iterator[Batch]) -> bool:
    return all(_is_same(together.at(slice(row, row + 1)), batch) for row, batch in enumerate(alone))


def _alike(one: Nested, other: Nested) -> bool:
    """Whether two values hold the same tensors; what is no number is not looked at."""
    pairs = zip_longest(tensors_of(one), tensors_of(other))
    return all(a is not None and b is not None and same_tensor(a, b) for a, b in pairs)


def same_tensor(one: Tensor, other: Tensor) -> bool:
    """Of one type and shape, and byte for byte the same (a NaN is itself)."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    same: bool = torch.equal(one.contiguous().view(-1).view(torch.uint8), other.contiguous().view(-1).view(torch.uint8))
    return same

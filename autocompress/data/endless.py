"""Examples that come one after the other, from an IterableDataset or a generator: a set of examples when they end soon,
otherwise a stream that training reads on from, and of which only the first examples are held.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from autocompress.data.batch import Batch, PerExample, joined_batches
from autocompress.data.conversion import AsPair, ListKind, batch_of, list_kind
from autocompress.data.loader_workers import each_of, reading_cause
from autocompress.data.seeding import seeded
from autocompress.errors import DataError, one_line

HEAD_EXAMPLES = 2048  # of a stream, held in memory: what calibrates, plans and is looked at
HEAD_BYTES = 256 << 20
HEAD_S = 10.0  # that reading them may take


@dataclass(frozen=True)
class FirstBatches:
    """What came within the bounds. ended: it was all."""

    batches: list[Batch]
    ended: bool
    examples: int
    seconds: float


class ExampleStream:
    """Batches of a source that is iterated; each position is an example of it. A source that can be iterated again is
    begun anew for an earlier position, and when it ends. Of a generator that has gone on, its first examples are given
    again. Raises DataError.
    """

    def __init__(self, name: str, source: Iterable[Any], as_pair: AsPair | None = None) -> None:
        self.name = name
        self.head: Batch | None = None
        self._source = source
        self._as_pair = as_pair
        self._once = iter(source) is source if isinstance(source, Iterator) else False
        self._running: Iterator[Batch] | None = None
        self._position = 0  # of the next example that is read
        self._held: list[Batch] = []  # read and not given yet
        self._again: list[Batch] = []  # the first examples of a generator that went on, to be given before those
        self._lists: ListKind | None = None  # what a list of targets is

    def batches(self) -> Iterator[Batch]:
        """From the beginning, as the source gives them."""
        examples = 0
        try:
            for given in each_of(_Seeded(self._source)):
                batch = batch_of(self.name, given, self._as_pair, self._lists)
                examples += len(batch)
                yield batch
        except (DataError, GeneratorExit):
            raise
        except Exception as error:  # the user's code raises anything
            raise DataError(
                f"the {self.name} split cannot be read on after {examples} examples: {reading_cause(error)}"
            ) from error

    def first(
        self, limit_s: float, most_bytes: int, check: Callable[[], None], head: int | None = None
    ) -> FirstBatches:
        """What can be read within the bounds; as far as it takes for a head in any case. head: how many examples that
        was for another process, where the source is known for a stream.
        """
        began, found, held, examples = time.monotonic(), list[Batch](), 0.0, 0
        reading = self.batches()
        for batch in reading:
            check()
            found.append(batch)
            held += batch.bytes_each * len(batch)
            examples += len(batch)
            took = time.monotonic() - began
            headed = examples >= HEAD_EXAMPLES or held >= HEAD_BYTES or took >= max(HEAD_S, limit_s)
            enough = held >= most_bytes or (took >= limit_s and headed)
            if enough if head is None else examples >= head:
                if self._once:
                    self._running = reading
                return FirstBatches(self._alike(found), False, examples, took)
        return FirstBatches(self._alike(found), True, examples, time.monotonic() - began)

    def _alike(self, batches: list[Batch]) -> list[Batch]:
        """Lists of targets taken for one thing in all of them. Those of as many heads as there are examples do not
        show it, and neither do rows that happen to be of one length.
        """
        kinds = [list_kind(batch.targets) for batch in batches]
        self._lists = next((kind for kind in ("examples", "heads") if kind in kinds), kinds[0] if kinds else None)
        if self._lists != "examples":
            return batches
        return [Batch(b.inputs, PerExample(b.targets)) for b in batches]

    def read_on_from(self, first: FirstBatches, head: int | None = None) -> Batch:
        """Hold the first examples, ``head`` of them where that is known; the rest of what was read is let go, unless it
        cannot be read again.
        """
        whole = whole_of(self.name, first.batches)
        count = head or min(HEAD_EXAMPLES, 1 << (len(whole).bit_length() - 1))
        count = max(1, min(count, len(whole), int(HEAD_BYTES / max(whole.bytes_each, 1))))
        self.head = whole.at(slice(count))
        if self._once:
            self._held, self._position = [whole], 0
        return self.head

    def from_position(self, position: int, sizes: Iterable[int]) -> Iterator[Batch]:
        """Batches of these sizes from an example on."""
        self._go_to(position)
        for size in sizes:
            yield self._next(size)

    def _go_to(self, position: int) -> None:
        assert self.head is not None
        if position < self._position and not self._once:
            self._running, self._held, self._position = None, [], 0
        while self._position < position:
            self._next(min(256, position - self._position))
        if position < self._position:  # a generator: what it gave first, again
            start = position % len(self.head)
            self._again = [self.head.at(slice(start, None))]
        self._position = position

    def _next(self, size: int) -> Batch:
        began = False
        while (have := sum(map(len, (*self._again, *self._held)))) < size:
            if self._running is None:
                if self._once:
                    assert self.head is not None
                    self._held.append(self.head)
                    continue
                self._running, began = self.batches(), True
            batch = next(self._running, None)
            if batch is None:
                if began and not have:
                    raise DataError(f"the {self.name} split gives no examples any more")
                self._running, began = None, True
                continue
            self._held.append(batch)
            began = False
        self._position += size
        again = _taken(self._again, size)
        return whole_of(self.name, [*again, *_taken(self._held, size - sum(map(len, again)))])


def _taken(held: list[Batch], size: int) -> list[Batch]:
    """So many examples, or all there are, which are held no longer."""
    taken = list[Batch]()
    while held and size:
        first = held.pop(0)
        if len(first) > size:
            held.insert(0, first.at(slice(size, None)))
            first = first.at(slice(size))
        taken.append(first)
        size -= len(first)
    return taken


def whole_of(name: str, batches: list[Batch]) -> Batch:
    """Raises DataError for examples of several shapes."""
    if not batches:
        raise DataError(f"the {name} split is empty")
    try:
        return joined_batches(batches)
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"the {name} split has examples of different shapes: {one_line(error)}; pad them to one shape, or give a "
            "Dataset, whose examples can be read by index"
        ) from error


@dataclass(frozen=True)
class _Seeded:
    """A source, begun under a seed: a loader draws that of its workers."""

    source: Iterable[Any]

    def __iter__(self) -> Iterator[Any]:
        with seeded(0):
            return iter(self.source)


@dataclass
class GeneratedExamples:
    """A generator of examples, or of batches, as batches. size: examples of a batch."""

    generator: Iterator[Any]
    collate: Callable[[list[Any]], Any]
    size: int = 64

    def __iter__(self) -> "GeneratedExamples":
        return self

    def __next__(self) -> Any:
        given = next(self.generator)
        if not _is_example(given):
            return given
        examples = [given]
        for other in self.generator:
            examples.append(other)
            if len(examples) >= self.size:
                break
        return self.collate(examples)


def _is_example(given: Any) -> bool:
    """Whether a pair is of one example: its target is a number."""
    target = given[1] if isinstance(given, (tuple, list)) and len(given) == 2 else None
    return target is not None and getattr(target, "ndim", 0 if isinstance(target, (int, float)) else 1) == 0

"""Examples of a map-style Dataset by index, read as its DataLoader reads them: by its workers, into batches of its own
``collate_fn``. What goes wrong names the example.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from autocompress.data.batch import Batch
from autocompress.data.conversion import AsPair, ListKind, batch_of, list_kind
from autocompress.data.example_cache import ExampleCache, NotKept
from autocompress.data.loader_workers import each_of, reading_cause
from autocompress.data.seeding import seeded
from autocompress.errors import DataError, one_line
from autocompress.nested import tensors_of
from autocompress.supervisor import tell_nobody

MOST_AT_ONCE = 256  # examples of a batch, about, that is read here: a loader's ``timeout`` is for one of its own
BLOCKED_S = 120.0  # without a batch from a loader's workers, after which they are taken to be stuck
MOST_BLOCKED_S = 600.0


@dataclass(frozen=True)
class Fault:
    """In place of what cannot be read. at: the example or examples."""

    at: str
    cause: str


class NumberedExamples(Dataset[Any]):
    """(row, example) pairs of a Dataset, through the cache. numbers: the indices that rows stand for; None: the rows
    themselves. What raises gives a ``Fault``, since an error of a worker process would not name the example. Its other
    attributes are the Dataset's: a ``worker_init_fn`` finds this one in ``get_worker_info()``.
    """

    OWN = ("whole", "numbers", "cache", "not_kept")

    def __init__(self, whole: Any, numbers: Sequence[int] | None = None) -> None:
        self.whole = whole
        self.numbers = numbers
        self.cache: ExampleCache | None = None
        self.not_kept = ""  # the kind of object that the cache cannot hold

    def __getattr__(self, name: str) -> Any:
        if name in self.OWN:  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.whole, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.OWN:
            super().__setattr__(name, value)
        else:
            setattr(self.whole, name, value)

    def __len__(self) -> int:
        return len(self.whole if self.numbers is None else self.numbers)

    def __getitem__(self, row: int) -> tuple[int, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[int, Any]]:
        missing = [row for row in rows if self.cache is None or not self.cache.has(row)]
        decoded = dict(zip(missing, self._decoded(missing), strict=True)) if missing else {}
        for row, example in decoded.items():
            if self.cache is not None and not isinstance(example, Fault):
                try:
                    self.cache.put(row, example)
                except NotKept as what:
                    self.not_kept = str(what)
                    self.cache.full = True  # nor can others be
        return [(row, decoded[row] if row in decoded else self.cache.get(row)) for row in rows]  # type: ignore[union-attr]

    def _decoded(self, rows: Sequence[int]) -> list[Any]:
        numbers = list(rows) if self.numbers is None else [self.numbers[row] for row in rows]
        if hasattr(self.whole, "__getitems__"):
            try:
                return list(self.whole.__getitems__(numbers))
            except Exception:  # one by one, to know which
                pass
        return [self._one(number) for number in numbers]

    def _one(self, number: int) -> Any:
        try:
            return self.whole[number]
        except Exception as error:  # the user's Dataset raises anything
            return Fault(f"index {number}", f"{type(error).__name__}: {one_line(error, 200)}")


@dataclass(frozen=True)
class Collated:
    """``collate`` of (row, example) pairs; the first ``Fault`` among them, or of collating, in place of a batch."""

    collate: Callable[[list[Any]], Any]

    def __call__(self, pairs: Sequence[tuple[int, Any]]) -> Any:
        examples = [example for _, example in pairs]
        for example in examples:
            if isinstance(example, Fault):
                return example
        try:
            return self.collate(examples)
        except Exception as error:  # the user's function raises anything
            rows, odd = [row for row, _ in pairs], _odd_one(examples)
            at = f"{rows[0]}..{rows[-1]}" if odd is None else f"index {rows[odd]}"
            return Fault(at, f"{type(error).__name__}: {one_line(error, 200)}")


class Chunks:
    """The rows of each batch that is wanted next, as a loader's batch sampler."""

    def __init__(self) -> None:
        self.wanted: Iterable[Sequence[int]] = ()

    def __iter__(self) -> Iterator[Sequence[int]]:
        return iter(self.wanted)


class DatasetReader:
    """loader: whose workers and ``collate_fn`` are used; None for a bare Dataset. numbers: the indices that are read,
    in order; None: all. say: told when not all examples can be kept. Raises DataError naming the split, the example
    and the cause.
    """

    def __init__(
        self,
        name: str,
        dataset: Any,
        as_pair: AsPair | None,
        loader: Any = None,
        numbers: Sequence[int] | None = None,
        say: Callable[[str], None] = tell_nobody,
    ) -> None:
        self.name = name
        self.examples = NumberedExamples(dataset, numbers)
        self._as_pair = as_pair
        self._say = say
        self._given = loader
        self._collated = Collated(default_collate if loader is None else loader.collate_fn or default_collate)
        self.workers: int = 0 if loader is None else loader.num_workers
        self._reads_here = not self.workers or loader.worker_init_fn is None
        self._said_full = False
        self.steady = False  # whether the Dataset gives the same examples each time; workers are not kept otherwise
        self._lists: ListKind | None = None  # what a list of targets is
        self._persistent: DataLoader[Any] | None = None  # between two uses

    def __len__(self) -> int:
        return len(self.examples)

    def keep_in(self, cache: ExampleCache | None) -> None:
        """Where examples are kept from now on, so that each is decoded once; None: nowhere."""
        self._persistent = None  # its workers know of another
        self.examples.cache = cache

    def take(self, rows: Sequence[int]) -> Batch:
        """One batch, read in this process unless only a loader's workers are set up to read."""
        if not self._reads_here and not self._knows(rows):
            return next(iter(self.read([rows])))
        batch = self._batch(self._collated(self.examples.__getitems__(rows)))
        self._say_when_full()
        return batch

    def read(self, chunks: Iterable[Sequence[int]], seed: int = 0) -> Iterator[Batch]:
        """A batch for each chunk of rows, in order, read ahead by the loader's workers. seed: of what they draw."""
        if not self.workers or (isinstance(chunks, list) and all(map(self._knows, chunks))):
            for number, rows in enumerate(chunks):
                with seeded(seed + number):
                    batch = self.take(rows)
                yield batch
            return
        loader, sampler = self._loader(seed)
        sampler.wanted = chunks
        batches = each_of(loader)
        for number in count():
            try:
                given = next(batches, None)
            except Exception as error:  # of a worker process, or of starting one
                raise DataError(
                    f"the {self.name} split cannot be read by its loader's workers, after {number} batches: "
                    f"{reading_cause(error)}"
                ) from error
            if given is None:
                break
            yield self._batch(given)
        if self._given.persistent_workers and self.steady:
            self._persistent = loader
        self._say_when_full()

    def _say_when_full(self) -> None:
        cache = self.examples.cache
        if cache is None or self._said_full or not cache.is_full:
            return
        self._said_full = True
        if self.examples.not_kept:
            why = f"they hold {self.examples.not_kept} objects; tensors, arrays and numbers can be"
        else:
            why = f"there is room for {cache.most_bytes / 2**30:.3g} GiB of them, half of the free disk"
        self._say(f"not all examples of the {self.name} split are kept, and some are decoded each time: {why}")

    def _loader(self, seed: int) -> "tuple[DataLoader[Any], Chunks]":
        if (kept := self._persistent) is not None:
            self._persistent = None
            return kept, kept.batch_sampler  # type: ignore[return-value]
        given, sampler = self._given, Chunks()
        loader: DataLoader[Any] = DataLoader(
            self.examples,
            batch_sampler=sampler,  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=self._collated,
            timeout=_timeout(given),
            worker_init_fn=given.worker_init_fn,
            multiprocessing_context=given.multiprocessing_context,
            generator=torch.Generator().manual_seed(seed),
            prefetch_factor=given.prefetch_factor,
            persistent_workers=given.persistent_workers and self.steady,
        )
        return loader, sampler

    def _knows(self, rows: Sequence[int]) -> bool:
        cache = self.examples.cache
        return cache is not None and all(map(cache.has, rows))

    def _batch(self, given: Any) -> Batch:
        if isinstance(given, Fault):
            raise DataError(f"the {self.name} split cannot be read at {given.at}: {given.cause}")
        batch = batch_of(self.name, given, self._as_pair, self._lists)
        if self._lists is None:  # many examples are read first, and there it shows
            self._lists = list_kind(batch.targets)
        return batch


def _timeout(loader: Any) -> float:
    """Seconds for one of the batches that are read here, which may be of more examples than the loader's own: as many
    times its own timeout, up to ten minutes.
    """
    own = loader.batch_size or getattr(loader.batch_sampler, "batch_size", None) or 1
    each_s = loader.timeout or BLOCKED_S
    return max(each_s, min(MOST_BLOCKED_S, each_s * -(-MOST_AT_ONCE // own)))


def _odd_one(examples: Sequence[Any]) -> int | None:
    """The first of the examples that differs in shape from the others; None where none stands out."""
    shapes = [tuple((tuple(t.shape), t.dtype) for t in tensors_of(example)) for example in examples]
    if len(shapes) < 3:
        return None
    commonest = max(shapes, key=shapes.count)
    odd = [number for number, shape in enumerate(shapes) if shape != commonest]
    return odd[0] if len(odd) < len(shapes) / 2 and odd else None

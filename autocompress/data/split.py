"""One split of the user's data: examples by index, in memory or read when asked for."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from autocompress.data.batch import Batch
from autocompress.data.drawing import Drawing, Permutations
from autocompress.nested import tensors_of

if TYPE_CHECKING:
    from autocompress.data.endless import ExampleStream

SAMPLE = 64  # examples of a split that the fingerprint covers, and that are read before all others

Collect = Callable[[Sequence[int]], Batch]
ReadChunks = Callable[[Iterable[Sequence[int]], int], Iterator[Batch]]


class Watch(Protocol):
    """Told of examples when they are first read. It raises DataError when they cannot be used."""

    def seen(self, rows: Tensor, batch: Batch) -> None: ...


class Split:
    """Examples by index. Either ``batch`` (in memory) or ``collect`` (a function of indices) holds them.

    read: batches for many lists of indices, read ahead; None: by ``collect``, one after the other. drawing: the order
    of an epoch of training; None: permutations. batch_size: of the user's loader, which training keeps to; None: free.
    steady: whether it gives the same examples each time. by_rows: whether an example is also the same whatever it is
    read together with. stream: what training reads on from; the examples by index are its first ones then. iterated:
    whether its source has no index: only time tells whether that ends. seconds_each: to read an example that was not
    read yet, with the loader's workers.
    """

    def __init__(
        self,
        name: str,
        size: int,
        collect: Collect,
        batch: Batch | None = None,
        *,
        read: ReadChunks | None = None,
        drawing: Drawing | None = None,
        batch_size: int | None = None,
        steady: bool = True,
        by_rows: bool | None = None,
        stream: "ExampleStream | None" = None,
        iterated: bool = False,
        seconds_each: float = 0.0,
    ) -> None:
        self.name = name
        self.size = size
        self.memory = batch
        self.drawing = drawing or Permutations(size)
        self.batch_size = batch_size
        self.by_rows = batch is not None if by_rows is None else by_rows
        self.steady = steady
        self.stream = stream
        self._iterated = iterated
        self.seconds_each = seconds_each
        self._collect = collect
        self._read = read
        self._watch: Watch | None = None
        self._unseen: np.ndarray | None = None
        self._numbers: Tensor | None = None  # of its examples in the split that it is a part of

    def __len__(self) -> int:
        return self.size

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return {"val": "validation", "train": "training"}.get(self.name, self.name)

    def watch(self, watch: Watch) -> None:
        """From now on examples are looked at when they are first read."""
        self._watch, self._unseen = watch, np.ones(self.size, dtype=bool)

    def take(self, indices: Tensor) -> Batch:
        """The examples at ``indices`` (1-D int64)."""
        if self.memory is not None:
            return self.memory.at(indices)
        return self._looked_at(indices, self._collect(indices.tolist()))

    def read(self, chunks: Iterable[Tensor], seed: int = 0) -> Iterator[Batch]:
        """The examples at each of ``chunks``, in order, read ahead where the user's loader has workers; of a list whose
        examples are all kept already, in this process. seed: of what a Dataset draws in them.
        """
        if self.memory is not None or self._read is None:
            yield from map(self.take, chunks)
            return
        asked: list[Tensor] = []  # and not given yet

        def rows() -> Iterator[Sequence[int]]:
            for chunk in chunks:
                asked.append(chunk)
                yield chunk.tolist()

        for batch in self._read(list(rows()) if isinstance(chunks, list) else rows(), seed):
            yield self._looked_at(asked.pop(0), batch)

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """Consecutive batches in order, the last one possibly smaller; at most ``limit`` examples."""
        end = min(self.size, limit or self.size)
        return self.read([torch.arange(start, min(start + batch_size, end)) for start in range(0, end, batch_size)])

    def sampled(self, count: int) -> "Split":
        """At most ``count`` examples, spread over the split."""
        return self.of(spread(self.size, count))

    def of(self, kept: Tensor) -> "Split":
        """The examples at ``kept`` (1-D int64), as a split, which knows their numbers here."""
        part = Split(
            self.name,
            len(kept),
            lambda indices: self.take(kept[list(indices)]),
            self.take(kept) if self.memory is not None else None,
            read=lambda chunks, seed: self.read(
                [kept[chunk] for chunk in chunks] if isinstance(chunks, list) else (kept[list(c)] for c in chunks), seed
            ),
            steady=self.steady,
            by_rows=self.by_rows,
            seconds_each=self.seconds_each,
        )
        part._numbers = kept if self._numbers is None else self._numbers[kept]
        return part

    def number(self, index: int) -> int:
        """That an example has in the user's split, which this one may be a part of."""
        return index if self._numbers is None else int(self._numbers[index])

    def sample_digest(self) -> str:
        """Digest of the size and of a sample of examples; of what is iterated of its first examples alone."""
        batch = self.take(torch.arange(min(self.size, SAMPLE)) if self._iterated else spread(self.size, SAMPLE))
        state = hashlib.sha256(str("iterated" if self._iterated else self.size).encode())
        for tensor in (*tensors_of(batch.inputs), *tensors_of(batch.targets)):
            state.update(
                f"{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
            )
        return state.hexdigest()

    def _looked_at(self, rows: Tensor, batch: Batch) -> Batch:
        if self._watch is not None and self._unseen is not None:
            new = self._unseen[rows.numpy()]
            if new.any():
                self._unseen[rows.numpy()] = False
                at = torch.from_numpy(np.flatnonzero(new))
                self._watch.seen(rows[at], batch if len(at) == len(rows) else batch.at(at))
        return batch


def spread(size: int, count: int) -> Tensor:
    """At most ``count`` indices over 0..size-1, evenly, the first and the last included."""
    count = min(count, size)
    return torch.arange(count) * (size - 1) // max(count - 1, 1)

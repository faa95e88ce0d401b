"""One split of the user's data: examples by index, in memory or read when asked for."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from autocompress.data.batch import Batch
from autocompress.nested import tensors_of

SAMPLE = 64  # examples of a split that the fingerprint covers, and that are read twice


class Split:
    """Examples by index. Either ``batch`` (in memory) or ``collect`` (a function of indices) holds them."""

    def __init__(
        self, name: str, size: int, collect: Callable[[Sequence[int]], Batch], batch: Batch | None = None
    ) -> None:
        self.name = name
        self.size = size
        self.memory = batch
        self._collect = collect

    def __len__(self) -> int:
        return self.size

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return {"val": "validation", "train": "training"}.get(self.name, self.name)

    def take(self, indices: Tensor) -> Batch:
        """The examples at ``indices`` (1-D int64)."""
        if self.memory is not None:
            return self.memory.at(indices)
        return self._collect(indices.tolist())

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """Consecutive batches in order, the last one possibly smaller; at most ``limit`` examples."""
        end = min(self.size, limit or self.size)
        for start in range(0, end, batch_size):
            yield self.take(torch.arange(start, min(start + batch_size, end)))

    def sampled(self, count: int) -> "Split":
        """At most ``count`` examples, spread over the split."""
        kept = spread(self.size, count)
        held = self.take(kept) if self.memory else None
        return Split(self.name, len(kept), lambda indices: self.take(kept[list(indices)]), held)

    def sample_digest(self) -> str:
        """Digest of the size and of a sample of examples."""
        indices = spread(self.size, SAMPLE)
        batch = self.take(indices)
        state = hashlib.sha256(str(self.size).encode())
        for tensor in (*tensors_of(batch.inputs), *tensors_of(batch.targets)):
            state.update(
                f"{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
            )
        return state.hexdigest()


def spread(size: int, count: int) -> Tensor:
    """At most ``count`` indices over 0..size-1, evenly, the first and the last included."""
    count = min(count, size)
    return torch.arange(count) * (size - 1) // max(count - 1, 1)

"""The training examples in the order every candidate sees them, with the teacher's outputs computed once.

All candidates read one stream: the same permutations, the same augmented copies, so that they differ by their recipe
alone and share the teacher's work. Augmentation is drawn for ``COPIES`` copies of the data, an epoch each, in turn;
the teacher's outputs belong to an (example, copy). They are computed block by block of the stream when first needed, by
whichever process comes first, and kept in the store.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.teacher import Teacher
from autocompress.data import Features, Split, ordered_as, rows_in, seeded, take_rows
from autocompress.errors import AutocompressError
from autocompress.nested import Nested, filled, tensors_of
from autocompress.storage.store import Store
from autocompress.task import Inputs, Task

COPIES = 4
COPY_BYTES = 2 << 30  # augmented copies kept in memory, all together
TEACHER_BATCH = 128


@dataclass(frozen=True)
class TrainBatch:
    """teacher: the reference's outputs by name, where they were asked for; features: of its layers."""

    inputs: Inputs
    targets: Nested
    teacher: dict[str, Tensor] | None
    features: Features = field(default_factory=dict)

    def __len__(self) -> int:
        return rows_in(self.targets)


class TrainStream:
    """``batches(start, examples, batch_size)`` reads on from any position; a position is counted in examples."""

    def __init__(
        self,
        task: Task,
        split: Split,
        teacher: Teacher,
        seed: int,
        kept: "TaughtBlocks | None" = None,
        policy: TrainingPolicy = TrainingPolicy(),
    ) -> None:
        self.split = split
        self.layout = teacher.layout
        self._augment = task.augment
        self.teacher = teacher
        self._seed = seed
        self._kept = kept
        self._policy = policy
        self._copies: dict[int, Inputs] = {}
        self._known: dict[int, tuple[dict[str, Tensor], Tensor]] = {}  # copy -> (outputs, which rows are filled)
        held = sum(t.element_size() * t.numel() for t in tensors_of(split.memory.inputs)) if split.memory else 0
        self._in_memory = split.memory is not None and (task.augment is None or held * 2 <= COPY_BYTES)
        self._copy_count = 1 if task.augment is None else max(1, min(COPIES, COPY_BYTES // max(held, 1)))

    def batches(
        self, start: int, examples: int, batch_size: int, *, teacher: bool, layers: Sequence[str] = ()
    ) -> Iterator[TrainBatch]:
        """Batches of ``batch_size`` from position ``start`` on, ``examples`` in all.

        A last batch of one joins the batch before it. layers: of the teacher, whose outputs are wanted; they are too
        large to be kept, so the teacher runs for each batch.
        """
        position, end = start, start + examples
        while position < end:
            epoch, offset = divmod(position, len(self.split))
            order = torch.randperm(len(self.split), generator=torch.Generator().manual_seed(self._seed + epoch))
            stop = min(len(self.split), offset + end - position)
            while offset < stop:
                size = batch_size if stop - offset - batch_size != 1 or batch_size == 1 else batch_size + 1
                chosen = slice(offset, min(offset + size, stop))
                offset, position = chosen.stop, position + chosen.stop - chosen.start
                yield self._batch(epoch, order, chosen, teacher, layers)

    def _batch(self, epoch: int, order: Tensor, at: slice, teacher: bool, layers: Sequence[str]) -> TrainBatch:
        """The examples that are at ``at`` in the order of their epoch."""
        copy, chosen = epoch % self._copy_count, order[at]
        if self._in_memory:
            assert self.split.memory is not None
            inputs, targets = take_rows(self._copy(copy), chosen), take_rows(self.split.memory.targets, chosen)
        else:
            batch = self.split.take(chosen)
            inputs = self._augmented(batch.inputs, self._seed + epoch * 1_000_003 + int(chosen[0]))
            targets = batch.targets
        if layers:
            return TrainBatch(inputs, targets, *self.teacher.features(inputs, layers))
        if not teacher:
            return TrainBatch(inputs, targets, None)
        if not self._in_memory or not self._fits(copy, inputs):
            return TrainBatch(inputs, targets, self.teacher.outputs(inputs))
        size = self._policy.taught_block
        for block in range(at.start // size, (at.stop - 1) // size + 1):
            self._teach(epoch, block, order[block * size : (block + 1) * size])
        return TrainBatch(inputs, targets, take_rows(self._known[copy][0], chosen))

    def _copy(self, copy: int) -> Inputs:
        assert self.split.memory is not None
        if self._augment is None:
            return self.split.memory.inputs
        if copy not in self._copies:
            parts = [
                tensors_of(self._augmented(batch.inputs, self._seed * 31 + copy * 1_000_003 + number))
                for number, batch in enumerate(self.split.batches(self._policy.taught_block))
            ]
            columns = [torch.cat(column) for column in zip(*parts, strict=True)]
            self._copies[copy] = filled(self.split.memory.inputs, columns)
        return self._copies[copy]

    def _augmented(self, inputs: Inputs, seed: int) -> Inputs:
        """The user's augmentation under a seed of its own; the caller's random state is left as it was."""
        if self._augment is None:
            return inputs
        with seeded(seed):
            augmented: Inputs = self._augment(inputs)
        return ordered_as(inputs, augmented)

    def _fits(self, copy: int, inputs: Inputs) -> bool:
        """Whether the teacher's outputs for a copy of the data can be held; makes room for them."""
        if copy not in self._known:
            one = self.teacher.outputs(take_rows(inputs, slice(1)))
            if sum(t.numel() * t.element_size() for t in one.values()) * len(self.split) > self._policy.teacher_bytes:
                return False
            self._known[copy] = (
                {name: torch.zeros(len(self.split), *t.shape[1:], dtype=t.dtype) for name, t in one.items()},
                torch.zeros(len(self.split), dtype=torch.bool),
            )
        return True

    def _teach(self, epoch: int, block: int, rows: Tensor) -> None:
        """Fill in the teacher's outputs for the examples ``rows``, a block of an epoch."""
        copy = epoch % self._copy_count
        outputs, known = self._known[copy]
        if bool(known[rows].all()):
            return
        at = self._policy.taught_block, epoch, block
        found = self._kept.get(*at) if self._kept else None
        if found is None or {n: t.shape for n, t in found.items()} != {n: t[rows].shape for n, t in outputs.items()}:
            held = take_rows(self._copy(copy), rows)
            parts = [
                self.teacher.outputs(take_rows(held, slice(i, i + TEACHER_BATCH)))
                for i in range(0, len(rows), TEACHER_BATCH)
            ]
            found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            if self._kept:
                self._kept.put(*at, found)
        for name, taught in found.items():
            outputs[name][rows] = taught
        known[rows] = True


class TaughtBlocks:
    """The teacher's outputs for a block of an epoch, in the store: a help to others, which a full disk goes without."""

    def __init__(self, store: Store, *task: object) -> None:
        self._store = store
        self._task = task

    def get(self, size: int, epoch: int, block: int) -> dict[str, Tensor] | None:
        """The outputs by name. size: examples of a block."""
        return self._store.load(self._key(size, epoch, block))

    def put(self, size: int, epoch: int, block: int, outputs: Mapping[str, Tensor]) -> None:
        with suppress(AutocompressError):
            self._store.save(self._key(size, epoch, block), outputs)

    def _key(self, size: int, epoch: int, block: int) -> str:
        return self._store.key("teacher", *self._task, size, epoch, block)

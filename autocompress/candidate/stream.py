"""The training examples in the order every candidate sees them, with the teacher's outputs computed once.

All candidates read one stream: the same permutations, the same augmented copies, so that they differ by their recipe
alone and share the teacher's work. Augmentation is drawn for ``COPIES`` copies of the data, an epoch each, in turn;
the teacher's outputs belong to an (example, copy) and are filled in when first needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autocompress.candidate.teacher import Features, Teacher
from autocompress.data import Split, map_inputs, seeded, tensors_of
from autocompress.task import Inputs, Task

COPIES = 4
COPY_BYTES = 2 << 30  # augmented copies kept in memory, all together
TEACHER_BYTES = 1 << 30
BLOCK = 1024  # examples augmented, and shown to the teacher, at a time


@dataclass(frozen=True)
class TrainBatch:
    inputs: Inputs
    targets: Tensor
    teacher: Tensor | None
    features: Features = field(default_factory=dict)  # of the teacher's layers that were asked for


class TrainStream:
    """``batches(start, examples, batch_size)`` reads on from any position; a position is counted in examples."""

    def __init__(self, task: Task, split: Split, teacher: Teacher, seed: int) -> None:
        self.split = split
        self._augment = task.augment
        self.teacher = teacher
        self._seed = seed
        self._copies: dict[int, Inputs] = {}
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # copy -> (outputs, which rows are filled)
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
                chosen = order[offset : min(offset + size, stop)]
                offset += len(chosen)
                position += len(chosen)
                yield self._batch(chosen, epoch, teacher, layers)

    def _batch(self, chosen: Tensor, epoch: int, teacher: bool, layers: Sequence[str]) -> TrainBatch:
        copy = epoch % self._copy_count
        if self._in_memory:
            assert self.split.memory is not None
            inputs, targets = map_inputs(lambda t: t[chosen], self._copy(copy)), self.split.memory.targets[chosen]
        else:
            batch = self.split.take(chosen)
            inputs = self._augmented(batch.inputs, self._seed + epoch * 1_000_003 + int(chosen[0]))
            targets = batch.targets
        if layers:
            return TrainBatch(inputs, targets, *self.teacher.features(inputs, layers))
        if not teacher:
            return TrainBatch(inputs, targets, None)
        taught = self._taught(copy, chosen, inputs) if self._in_memory else self.teacher.outputs(inputs)
        return TrainBatch(inputs, targets, taught)

    def _copy(self, copy: int) -> Inputs:
        assert self.split.memory is not None
        if self._augment is None:
            return self.split.memory.inputs
        if copy not in self._copies:
            parts = [
                tensors_of(self._augmented(batch.inputs, self._seed * 31 + copy * 1_000_003 + number))
                for number, batch in enumerate(self.split.batches(BLOCK))
            ]
            columns = iter([torch.cat(column) for column in zip(*parts, strict=True)])
            self._copies[copy] = map_inputs(lambda _: next(columns), self.split.memory.inputs)
        return self._copies[copy]

    def _augmented(self, inputs: Inputs, seed: int) -> Inputs:
        """The user's augmentation under a seed of its own; the caller's random state is left as it was."""
        if self._augment is None:
            return inputs
        with seeded(seed):
            augmented: Inputs = self._augment(inputs)
        return (
            {name: augmented[name] for name in inputs}
            if isinstance(inputs, dict) and isinstance(augmented, dict)
            else augmented
        )

    def _taught(self, copy: int, chosen: Tensor, inputs: Inputs) -> Tensor:
        if copy not in self._known:
            one = self.teacher.outputs(map_inputs(lambda t: t[:1], inputs))
            if one[0].numel() * one.element_size() * len(self.split) > TEACHER_BYTES:
                return self.teacher.outputs(inputs)
            self._known[copy] = (
                torch.zeros(len(self.split), *one.shape[1:]),
                torch.zeros(len(self.split), dtype=torch.bool),
            )
        outputs, filled = self._known[copy]
        missing = ~filled[chosen]
        if missing.any():
            new = chosen[missing]
            outputs[new] = self.teacher.outputs(map_inputs(lambda t: t[missing], inputs))
            filled[new] = True
        return outputs[chosen]

"""The training examples in the order every candidate sees them, with the teacher's outputs for them.

All candidates read one stream: an order that the seed and the epoch decide (``data/drawing.py``), augmented under a
seed of the epoch and the position, so that they differ by their recipe alone. Where an example is the same whatever it
is read together with, the user's augmentation is called for ``Split.batch_size`` examples at a time, counted from the
beginning of the epoch, so that candidates of any batch size train on the same; otherwise for each batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.taught import Outputs, TaughtBlocks, TaughtEpochs, TaughtExamples
from autocompress.candidate.teacher import Teacher
from autocompress.data import Batch, Features, Order, Split, joined, ordered_as, rows_in, seeded, take_rows
from autocompress.nested import Nested
from autocompress.task import Inputs, Task

AUGMENTED = 64  # examples at a time, where the user's loader does not say


@dataclass(frozen=True)
class TrainBatch:
    """teacher: the reference's outputs by name, where they were asked for; features: of its layers."""

    inputs: Inputs
    targets: Nested
    teacher: Outputs | None
    features: Features = field(default_factory=dict)

    def __len__(self) -> int:
        return rows_in(self.targets)


@dataclass(frozen=True)
class Piece:
    """Draws ``start`` to ``stop`` of an epoch."""

    epoch: int
    order: Order
    start: int
    stop: int

    @property
    def at(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def rows(self) -> Tensor:
        return self.order.rows[self.at]


class TrainStream:
    """``batches(start, examples, batch_size)`` reads on from any position; a position is counted in examples."""

    def __init__(
        self,
        task: Task,
        split: Split,
        teacher: Teacher,
        seed: int,
        kept: TaughtBlocks | None = None,
        policy: TrainingPolicy = TrainingPolicy(),
    ) -> None:
        self.split = split
        self.layout = teacher.layout
        self.teacher = teacher
        self._augment = task.augment
        self._seed = seed
        self._policy = policy
        self._orders: dict[int, Order] = {}  # the latest
        self._ends: list[int] = []  # positions where epochs end
        self._by_example = TaughtExamples(teacher, split, kept, policy)
        self._by_epoch = TaughtEpochs(teacher, kept, policy)

    def batches(
        self, start: int, examples: int, batch_size: int, *, teacher: bool, layers: Sequence[str] = ()
    ) -> Iterator[TrainBatch]:
        """Batches of ``batch_size`` from position ``start`` on, ``examples`` in all; where the user's loader has a
        batch sampler of its own, its batches.

        A last batch of one joins the batch before it. layers: of the teacher, whose outputs are wanted; they are too
        large to be kept, so the teacher runs for each batch.
        """
        if self.split.stream is not None:
            read = self._read_on(start, examples, batch_size)
        elif self._augment is not None and self.split.by_rows:
            read = self._in_augmented_blocks(start, examples, batch_size, teacher and not layers)
        else:
            read = self._as_they_are(start, examples, batch_size, teacher and not layers)
        for batch in read:
            if layers:
                yield TrainBatch(batch.inputs, batch.targets, *self.teacher.features(batch.inputs, layers))
            elif teacher and batch.teacher is None:
                yield TrainBatch(batch.inputs, batch.targets, self.teacher.outputs(batch.inputs))
            else:
                yield batch

    # -- which examples ------------------------------------------------------------------------------------------------

    def _segments(self, start: int, examples: int) -> Iterator[Piece]:
        """The part of each epoch between two positions."""
        position, end = start, start + examples
        while position < end:
            epoch, began = self._epoch_at(position)
            order = self._order(epoch)
            offset = position - began
            stop = min(len(order.rows), end - began)
            yield Piece(epoch, order, offset, stop)
            position += stop - offset

    def _epoch_at(self, position: int) -> tuple[int, int]:
        """The epoch that a position is in, and where it begins."""
        while not self._ends or self._ends[-1] <= position:
            began = self._ends[-1] if self._ends else 0
            self._ends.append(began + len(self._order(len(self._ends)).rows))
        epoch = next(number for number, end in enumerate(self._ends) if position < end)
        return epoch, self._ends[epoch - 1] if epoch else 0

    def _order(self, epoch: int) -> Order:
        if epoch not in self._orders:
            self._orders = {epoch: self.split.drawing.epoch(epoch, self._seed)}
        return self._orders[epoch]

    def _pieces(self, segment: Piece, batch_size: int) -> Iterator[Piece]:
        """The batches of a segment."""
        at, stop = segment.start, segment.stop
        if segment.order.ends:
            ends = [at, *(end for end in segment.order.ends if at < end < stop), stop]
            yield from (Piece(segment.epoch, segment.order, one, other) for one, other in pairwise(ends))
            return
        for one, other in _batches_between(at, stop - at, batch_size):
            yield Piece(segment.epoch, segment.order, one, other)

    # -- three ways to read them ---------------------------------------------------------------------------------------

    def _as_they_are(self, start: int, examples: int, batch_size: int, teacher: bool) -> Iterator[TrainBatch]:
        """Each batch as the split gives it; where the user's augmentation is called, for each batch."""
        keeps = teacher and self._augment is None and self.split.by_rows and self._by_example.fits()
        asked: list[Piece] = []

        def rows() -> Iterator[Tensor]:
            for segment in self._segments(start, examples):
                for piece in self._pieces(segment, batch_size):
                    asked.append(piece)
                    yield piece.rows

        for batch in self.split.read(rows(), self._seed + start):
            piece = asked.pop(0)
            inputs = self._augmented(batch.inputs, piece.epoch, piece.start)
            outputs = self._by_example.of(piece.epoch, piece.order.rows, piece.at, inputs) if keeps else None
            yield TrainBatch(inputs, batch.targets, outputs)

    def _in_augmented_blocks(self, start: int, examples: int, batch_size: int, teacher: bool) -> Iterator[TrainBatch]:
        """Batches cut out of blocks that are augmented as a whole."""
        size = self.split.batch_size or AUGMENTED
        for segment in self._segments(start, examples):
            epoch, order = segment.epoch, segment.order
            first, last = segment.start // size, (segment.stop - 1) // size
            rows = (order.rows[n * size : (n + 1) * size] for n in range(first, last + 1))
            blocks = self.split.read(rows, self._seed + start)
            held, begins, number = list[TrainBatch](), first * size, first
            for piece in self._pieces(segment, batch_size):
                while begins + sum(map(len, held)) < piece.stop:
                    block = next(blocks)
                    inputs = self._augmented(block.inputs, epoch, number * size)
                    outputs = self._by_epoch.of(epoch, number, inputs, len(order.rows), size) if teacher else None
                    held.append(TrainBatch(inputs, block.targets, outputs))
                    number += 1
                while begins + len(held[0]) <= piece.start:
                    begins += len(held.pop(0))
                yield _cut(held, slice(piece.start - begins, piece.stop - begins))
            for _ in blocks:  # it ends with the segment, and the loader's workers are kept for the next
                pass

    def _read_on(self, start: int, examples: int, batch_size: int) -> Iterator[TrainBatch]:
        """From a stream, which has no epochs."""
        assert self.split.stream is not None
        sizes = [stop - at for at, stop in _batches_between(start, examples, batch_size)]
        for batch in self.split.stream.from_position(start, sizes):
            yield TrainBatch(self._augmented(batch.inputs, 0, start), batch.targets, None)
            start += len(batch)

    def _augmented(self, inputs: Inputs, epoch: int, position: int) -> Inputs:
        """The user's augmentation under a seed of its own; the caller's random state is left as it was."""
        if self._augment is None:
            return inputs
        with seeded(self._seed * 31 + epoch * 1_000_003 + position):
            augmented: Inputs = self._augment(inputs)
        return ordered_as(inputs, augmented)


def _batches_between(start: int, examples: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Where batches begin and stop; a last one of one joins the batch before it."""
    end = start + examples
    while start < end:
        stop = end if end - start == batch_size + 1 and batch_size > 1 else min(start + batch_size, end)
        yield start, stop
        start = stop


def _cut(blocks: Sequence[TrainBatch], at: slice) -> TrainBatch:
    """The examples at ``at`` of consecutive blocks."""
    if len(blocks) == 1 and at == slice(0, len(blocks[0])):
        return blocks[0]
    whole = Batch(joined([block.inputs for block in blocks]), joined([block.targets for block in blocks])).at(at)
    taught = [block.teacher for block in blocks if block.teacher is not None]
    return TrainBatch(whole.inputs, whole.targets, take_rows(joined(taught), at) if taught else None)

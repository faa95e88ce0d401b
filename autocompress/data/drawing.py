"""In which order an epoch of training draws the examples of a split: a permutation, or as the loader's sampler does.

The order is decided by the seed and the number of the epoch, so that all candidates of a search see one sequence.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, WeightedRandomSampler

from autocompress.data.seeding import seeded
from autocompress.errors import DataError, one_line


@dataclass(frozen=True)
class Order:
    """rows: one draw after the other (int64). ends: where the batches of a batch sampler of the user's own end, as
    positions in ``rows``; none where batches are of one size.
    """

    rows: Tensor
    ends: tuple[int, ...] = ()


class Drawing(Protocol):
    def epoch(self, number: int, seed: int) -> Order: ...


@dataclass(frozen=True)
class Permutations:
    """Every example once an epoch (``RandomSampler``)."""

    size: int

    def epoch(self, number: int, seed: int) -> Order:
        return Order(torch.randperm(self.size, generator=torch.Generator().manual_seed(seed + number)))


@dataclass(frozen=True)
class WholeBatches:
    """Without a last batch that is smaller (``drop_last``), unless it is all there is."""

    drawing: Drawing
    batch_size: int

    def epoch(self, number: int, seed: int) -> Order:
        order = self.drawing.epoch(number, seed)
        whole = len(order.rows) // self.batch_size * self.batch_size
        return Order(order.rows[: whole or None])


class SamplerDrawing:
    """A sampler, or a batch sampler, of the user's. rows: of the split, by the indices that the sampler draws. One that
    draws with a generator of its own, which no seed reaches, is drawn from epoch by epoch from where the task left it,
    and what it drew is kept: the same in every process that makes the task.
    """

    def __init__(self, name: str, sampler: Any, size: int, rows: Mapping[int, int] | None = None) -> None:
        self._name = name
        self._sampler = sampler
        self._size = size
        self._rows = rows
        one, other = (drawn_by(name, sampler, 0, 0, size) for _ in range(2))
        self._known: list[tuple[Tensor, tuple[int, ...]]] | None = None if one == other else []  # by epoch

    def epoch(self, number: int, seed: int) -> Order:
        if self._known is None:
            drawn, ends = drawn_by(self._name, self._sampler, number, seed, self._size)
        else:
            while len(self._known) <= number:
                drawn, ends = drawn_by(self._name, self._sampler, len(self._known), seed, self._size)
                self._known.append((torch.tensor(drawn, dtype=torch.int32), ends))
            drawn, ends = self._known[number][0].tolist(), self._known[number][1]
        if self._rows is not None:
            try:
                drawn = [self._rows[index] for index in drawn]
            except KeyError as error:
                raise DataError(
                    f"the sampler of the {self._name} split draws {error}, which it did not draw before: give it the "
                    "same examples each epoch, or a Dataset of those to train on"
                ) from error
        return Order(torch.tensor(drawn, dtype=torch.int64), ends)


def drawing_of(name: str, loader: "DataLoader[Any]", size: int, numbers: Sequence[int] | None) -> Drawing:
    """How a loader draws. numbers: the indices that the rows of the split stand for; None: all of the Dataset."""
    rows = None if numbers is None else {index: row for row, index in enumerate(numbers)}
    if type(loader.batch_sampler) is not BatchSampler:
        return SamplerDrawing(name, loader.batch_sampler, size, rows)
    drawing: Drawing
    if is_permutation(loader.sampler):
        drawing = Permutations(size if numbers is None else len(numbers))
    else:
        drawing = SamplerDrawing(name, loader.sampler, size, rows)
    return WholeBatches(drawing, loader.batch_size or 1) if loader.drop_last else drawing


def is_permutation(sampler: Any) -> bool:
    """Whether a sampler draws every example once; the order is for the engine to draw."""
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) is SequentialSampler


def drawn_set(name: str, loader: "DataLoader[Any]", size: int) -> list[int] | None:
    """The indices that a loader's sampler chooses from, in order; None where that is the whole Dataset: also where it
    draws some examples twice, or others each epoch.
    """
    batches = type(loader.batch_sampler) is not BatchSampler
    sampler = loader.batch_sampler if batches else loader.sampler
    if not batches and type(sampler) in (SequentialSampler, RandomSampler, WeightedRandomSampler):
        return None
    one, other = (drawn_by(name, sampler, epoch, 0, size)[0] for epoch in (0, 1))
    chosen = set(one)
    if len(chosen) < len(one) or chosen != set(other) or len(chosen) == size:
        return None
    return sorted(chosen)


def drawn_by(name: str, sampler: Any, epoch: int, seed: int, size: int) -> tuple[list[int], tuple[int, ...]]:
    """What a sampler draws in an epoch, and where its batches end if it draws batches. One that does not end is taken
    to draw as many as there are examples. Raises DataError.
    """
    drawing: list[Any] = [sampler, getattr(sampler, "sampler", None)]
    drawn: list[int] = []
    ends: list[int] = []
    try:
        with seeded(seed + epoch), _drawing_with(drawing, seed + epoch):
            for each in drawing:
                if hasattr(each, "set_epoch"):
                    each.set_epoch(epoch)
            for index in islice(iter(sampler), max(4 * size, 1)):
                if isinstance(index, Iterable):
                    drawn += (int(i) for i in index)
                    ends.append(len(drawn))
                else:
                    drawn.append(int(index))
                if len(drawn) >= 4 * size:
                    break
    except Exception as error:  # the user's sampler raises anything
        raise DataError(f"the sampler of the {name} split raises {type(error).__name__}: {one_line(error)}") from error
    if len(drawn) >= 4 * size > 0 and not hasattr(sampler, "__len__"):
        ends = [end for end in ends if end <= size]
        drawn = drawn[: ends[-1] if ends else size]
    if not drawn:
        raise DataError(f"the sampler of the {name} split draws nothing: the split is empty")
    if not all(0 <= index < size for index in (min(drawn), max(drawn))):
        raise DataError(f"the sampler of the {name} split draws {max(drawn)}, and its Dataset has {size} examples")
    return drawn, tuple(ends)


@contextmanager
def _drawing_with(samplers: Iterable[Any], seed: int) -> Iterator[None]:
    """While open, what the samplers draw with is a generator of this seed."""
    own = [each for each in samplers if hasattr(each, "generator")]
    before = [each.generator for each in own]
    for each in own:
        each.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        for each, generator in zip(own, before, strict=True):
            each.generator = generator

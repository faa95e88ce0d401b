"""A batch: inputs as the model takes them, targets as the loss and the metric do, both nested, by example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autocompress.nested import Nested, filled, map_tensors, named_tensors, tensors_of

INPUT = "input"  # the name of a graph's only input; several are input_0, input_1, ... or have names of their own


class PerExample(list[Any]):
    """One value an example, where they differ in shape and no tensor holds them all: the boxes of each image."""


@dataclass(frozen=True)
class Batch:
    """inputs: tensors, or tuples, dicts and dataclasses of them, examples along the first dimension of each. targets:
    the same, or ``PerExample``.
    """

    inputs: Nested
    targets: Nested

    def __len__(self) -> int:
        return rows_in(self.targets)

    def at(self, rows: Tensor | slice) -> "Batch":
        """The examples at ``rows`` (1-D int64)."""
        return Batch(take_rows(self.inputs, rows), take_rows(self.targets, rows))

    @property
    def bytes_each(self) -> float:
        """Of the tensors of one example."""
        held = sum(t.element_size() * t.numel() for t in (*tensors_of(self.inputs), *tensors_of(self.targets)))
        return held / max(len(self), 1)


def rows_in(value: Nested) -> int:
    """How many examples a value holds: the length of what is by example, or of its first tensor."""
    if isinstance(value, PerExample):
        return len(value)
    return len(tensors_of(value)[0])


def take_rows(value: Nested, rows: Tensor | slice) -> Nested:
    """The examples at ``rows`` of every tensor."""
    if isinstance(value, PerExample):
        return PerExample(value[rows] if isinstance(rows, slice) else (value[i] for i in rows.tolist()))
    return map_tensors(lambda tensor: tensor[rows], value)


def joined(values: Sequence[Nested]) -> Nested:
    """The examples of all, one after the other. Raises RuntimeError or ValueError where their shapes do not match."""
    first = values[0]
    if any(isinstance(value, PerExample) for value in values):  # of others no tensor could hold all
        return PerExample(each for value in values for each in value)
    if len(values) == 1:
        return first
    return filled(first, [torch.cat(parts) for parts in zip(*map(tensors_of, values), strict=True)])


def joined_padded(values: Sequence[Nested], label: float = 0) -> Nested:
    """As ``joined``, of tensors that differ in size along other axes too, as batches do that were padded each to its
    longest example: padded at the end to the largest size, whole numbers with ``label``, anything else with zeros.
    """
    first = values[0]
    if any(isinstance(value, PerExample) for value in values) or len(values) == 1:
        return joined(values)
    columns = list(zip(*map(tensors_of, values), strict=True))
    return filled(first, [torch.cat(tuple(_padded_alike(column, label))) for column in columns])


def _padded_alike(tensors: Sequence[Tensor], label: float) -> Sequence[Tensor]:
    shapes = {tuple(tensor.shape[1:]) for tensor in tensors}
    if len(shapes) == 1 or len({len(shape) for shape in shapes}) > 1:
        return tensors
    longest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    whole = not tensors[0].is_floating_point() and tensors[0].dtype != torch.bool
    padded = []
    for tensor in tensors:
        room = tensor.new_full((len(tensor), *longest), label if whole else 0)
        room[tuple(slice(size) for size in tensor.shape)] = tensor
        padded.append(room)
    return padded


def joined_batches(batches: Sequence[Batch]) -> Batch:
    """As ``joined``."""
    return Batch(joined([batch.inputs for batch in batches]), joined([batch.targets for batch in batches]))


def named_inputs(inputs: Nested) -> dict[str, Tensor]:
    """The tensors of the inputs by the names of the graph's inputs, in order."""
    return named_tensors(inputs, INPUT)


def ordered_as(like: Nested, inputs: Nested) -> Nested:
    """``inputs`` with the entries of ``like``, in their order, where both are dicts; what is more is left out."""
    if isinstance(like, Mapping) and isinstance(inputs, Mapping):
        return {name: inputs[name] for name in like}
    return inputs


def as_held(tensor: Tensor) -> Tensor:
    """The tensor as splits hold it: on the CPU, without history, floating point as float32."""
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def as_target(tensor: Tensor) -> Tensor:
    """A target as splits hold it: as ``as_held``, and whole numbers as int64, as losses want them."""
    tensor = as_held(tensor)
    whole = not tensor.is_floating_point() and tensor.dtype not in (torch.bool, torch.int64)
    return tensor.long() if whole and not tensor.is_complex() else tensor

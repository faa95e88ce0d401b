"""Outputs and targets as a scored set, without a model or files."""

from typing import Any

from torch import Tensor, nn

from autocompress.data import Batch, KeptOutputs, OutputLayout, ScoredSet, Split, rows_in
from autocompress.nested import Nested
from autocompress.task import Task


def set_of(outputs: Tensor, targets: Nested, metric: Any = "accuracy", **others: Any) -> ScoredSet:
    """A validation split with these targets, for a model that returns one tensor like ``outputs``."""
    task = Task(name="t", model=nn.Identity(), train=None, val=None, metric=metric, **others)
    batch = Batch(outputs, targets)
    split = Split("val", rows_in(targets), lambda indices: batch, batch)
    return ScoredSet(task, split, OutputLayout(outputs[:2], ("output",), {"output": 0}, "output"))


def kept_of(examples: ScoredSet, outputs: Tensor, at_once: int = 64) -> KeptOutputs:
    """What is kept of outputs for all of its examples, handed on in pieces."""
    batch = Batch(outputs, examples.targets)
    starts = range(0, len(outputs), at_once)
    pieces = (batch.at(slice(start, start + at_once)) for start in starts)
    return examples.kept(({"output": piece.inputs}, piece.targets) for piece in pieces)

"""What is checked of a split before a search: that the model takes it, that no number is wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autocompress.classes import class_count, is_soft
from autocompress.data.batch import Batch, PerExample
from autocompress.data.first_examples import FirstExamples
from autocompress.data.overlap import Overlaps, WatchedBy
from autocompress.data.split import SAMPLE, spread
from autocompress.errors import DataError
from autocompress.nested import Nested, tensors_of
from autocompress.task import Task

CHECKED_AT_ONCE = 4096


def check_split(first: FirstExamples, task: Task, overlaps: Overlaps | None = None) -> None:
    """Refuse what would make every number wrong: NaN in inputs or targets, one class only, labels out of range. What is
    in memory is looked at whole; of what is not a sample, and the rest when it is first read. first: of the split.
    overlaps: told of what is read.

    Raises DataError naming the split, how many, and the first index.
    """
    split, checks = first.split, SplitChecks(first, task)
    if split.memory is None:
        split.watch(checks if overlaps is None else WatchedBy(split.name, checks, overlaps))
        for _ in split.read(list(torch.split(spread(len(split), SAMPLE), SAMPLE // 4))):
            pass
        return
    for start in range(0, len(split), CHECKED_AT_ONCE):
        rows = torch.arange(start, min(start + CHECKED_AT_ONCE, len(split)))
        checks.look_at(rows, split.take(rows))
    checks.refuse()


class SplitChecks:
    """What is found in the examples of a split, whichever were looked at."""

    def __init__(self, first: FirstExamples, task: Task) -> None:
        split = first.split
        self._split = split
        self._ignored = task.ignored
        self._classes = _class_count(task, first)
        self._bad = _Faults(f"the {split.name} split has NaN or infinite inputs", "clean or drop them")
        self._wrong = _Faults(
            f"the {split.name} split has labels out of range", f"expected 0..{(self._classes or 0) - 1}"
        )
        self._lost = _Faults(f"the {split.name} split has NaN or infinite targets", "clean or drop them")
        self._labels: set[int] = set()
        self._labelled = False  # with whole numbers
        self._looked_at = 0

    def seen(self, rows: Tensor, batch: Batch) -> None:
        """Raises DataError at once when something is wrong with these."""
        self.look_at(rows, batch)
        self.refuse()

    def look_at(self, rows: Tensor, batch: Batch) -> None:
        """rows: of the split, which the batch has."""
        self._looked_at += len(rows)
        self._bad.add(rows, _not_finite(batch.inputs, len(batch)))
        self._lost.add(rows, _not_finite(batch.targets, len(batch)))
        targets = batch.targets
        if self._classes is None or targets.is_floating_point() or targets.dtype == torch.bool:
            return
        self._labelled = True
        counted = targets != self._ignored
        outside = ((targets < 0) | (targets >= self._classes)) & counted
        self._wrong.add(rows, ~_each(~outside), lambda at: targets[at][outside[at]].tolist()[0])
        self._labels |= set(torch.unique(targets[counted]).tolist())

    def refuse(self) -> None:
        """Raises DataError for what was found."""
        for faults in (self._bad, self._wrong, self._lost):
            faults.refuse()
        whole = self._looked_at >= len(self._split)
        if whole and self._labelled and not self._labels:
            raise DataError(
                f"the {self._split.name} split has no label that counts: all are {self._ignored}, which is left out"
            )
        if whole and len(self._labels) == 1:
            raise DataError(
                f"the {self._split.name} split has one class only ({min(self._labels)} in all {self._split.size} "
                "examples): nothing can be learned or scored"
            )


def _not_finite(value: Nested, count: int) -> Tensor:
    """Which of ``count`` examples hold a number that is none -> (count,)."""
    rows = torch.zeros(count, dtype=torch.bool)
    if isinstance(value, PerExample):
        return torch.tensor([_unfit(each) for each in value])
    for tensor in (t for t in tensors_of(value) if t.is_floating_point()):
        rows |= ~_each(torch.isfinite(tensor))
    return rows


def _unfit(value: Any) -> bool:
    return any(t.is_floating_point() and not bool(torch.isfinite(t).all()) for t in tensors_of(value))


def _each(good: Tensor) -> Tensor:
    """Whether all of an example is good -> (N,)."""
    return good.flatten(1).all(1) if good.dim() > 1 else good


class _Faults:
    """Counts faulty examples over batches and remembers the first."""

    def __init__(self, what: str, way_out: str) -> None:
        self._what, self._way_out = what, way_out
        self._count, self._first, self._value = 0, -1, ""

    def add(self, rows: Tensor, faulty: Tensor, value: Callable[[int], object] | None = None) -> None:
        """faulty: which of the examples at ``rows`` are. value: what is wrong with one of them."""
        if faulty.any() and self._first < 0:
            at = int(faulty.nonzero()[0])
            self._first = int(rows[at])
            self._value = "" if value is None else f" is {value(at)}"
        self._count += int(faulty.sum())

    def refuse(self) -> None:
        if self._count:
            raise DataError(
                f"{self._what}: {self._count} of them, the first at index {self._first}{self._value}; {self._way_out}"
            )


def _class_count(task: Task, first: FirstExamples) -> int | None:
    """How many classes the labels may name, when the task's own loss or metric is one that counts on them; None when
    both are the user's, who may mark labels to be ignored by numbers of any kind.
    """
    split, batch = first.split, first.batch
    if not isinstance(batch.targets, Tensor) and (task.is_accuracy or isinstance(task.loss, str)):
        raise DataError(
            f"the {split.name} split has targets that are no tensor but {type(batch.targets).__name__}, which losses "
            "by name and accuracy need: give Task.loss and Task.metric as callables"
        )
    if not task.is_accuracy and task.loss != "cross_entropy":
        return None
    outputs = first.outputs(task)
    if batch.targets.is_floating_point() and not is_soft(outputs, batch.targets):
        raise DataError(
            f"the {split.name} split has {batch.targets.dtype} targets, but "
            "cross_entropy and accuracy need integer labels, or probabilities of the classes that sum to 1"
        )
    classes = class_count(outputs, batch.targets)
    if classes is None:
        raise DataError(
            f"the {split.name} split has targets of shape {tuple(batch.targets.shape)} for outputs of shape "
            f"{tuple(outputs.shape)}: expected outputs (N, classes) for labels (N,), with two classes or more, or one "
            "such row for each place of an example"
        )
    return None if is_soft(outputs, batch.targets) else classes

"""What is checked of a split before a search: that the model takes it, that no number is wrong."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autocompress.classes import class_count, is_soft
from autocompress.data.batch import Batch, PerExample
from autocompress.data.layout import returned_for
from autocompress.data.split import Split
from autocompress.errors import UsageError
from autocompress.nested import Nested, tensors_of
from autocompress.task import Task

READ_AT_ONCE = 4096


def check_split(split: Split, task: Task) -> None:
    """Refuse what would make every number wrong: NaN in inputs or targets, one class only, labels out of range.

    Raises UsageError naming the split, how many, and the first index.
    """
    classes = _class_count(task, split)
    bad = _Faults(f"the {split.name} split has NaN or infinite inputs", "clean or drop them")
    wrong = _Faults(f"the {split.name} split has labels out of range", f"expected 0..{(classes or 0) - 1}")
    lost = _Faults(f"the {split.name} split has NaN or infinite targets", "clean or drop them")
    seen: set[int] = set()
    for batch in split.batches(READ_AT_ONCE):
        bad.add(_not_finite(batch.inputs, len(batch)))
        lost.add(_not_finite(batch.targets, len(batch)))
        if classes is not None and not batch.targets.is_floating_point() and batch.targets.dtype != torch.bool:
            counted = batch.targets != task.ignored
            outside = ((batch.targets < 0) | (batch.targets >= classes)) & counted
            labels = (
                [own[bad_ones].tolist()[:1] for own, bad_ones in zip(batch.targets, outside, strict=True)]
                if outside.any()
                else []
            )
            wrong.add(~_each(~outside), [label[0] if label else "" for label in labels])
            seen |= set(torch.unique(batch.targets[counted]).tolist())
    for faults in (bad, wrong, lost):
        faults.refuse()
    if len(seen) == 1:
        raise UsageError(
            f"the {split.name} split has one class only ({seen.pop()} in all {split.size} examples): "
            "nothing can be learned or scored"
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
        self._count, self._seen, self._first, self._value = 0, 0, -1, ""

    def add(self, rows: Tensor, values: Sequence[object] | None = None) -> None:
        if rows.any() and self._first < 0:
            at = int(rows.nonzero()[0])
            self._first = self._seen + at
            self._value = "" if values is None else f" is {values[at]}"
        self._count += int(rows.sum())
        self._seen += len(rows)

    def refuse(self) -> None:
        if self._count:
            raise UsageError(
                f"{self._what}: {self._count} of them, the first at index {self._first}{self._value}; {self._way_out}"
            )


def _class_count(task: Task, split: Split) -> int | None:
    """How many classes the labels may name, when the task's own loss or metric is one that counts on them; None when
    both are the user's, who may mark labels to be ignored by numbers of any kind.
    """
    if task.metric != "accuracy" and task.loss != "cross_entropy":
        return None
    batch = split.take(torch.arange(min(2, split.size)))
    outputs = task.scored(returned_for(task.copy_of_model(), batch.inputs))
    if not isinstance(batch.targets, Tensor):
        raise UsageError(
            f"the {split.name} split has targets that are no tensor but {type(batch.targets).__name__}, and "
            "cross_entropy and accuracy need labels: give Task.loss and Task.metric as callables"
        )
    if batch.targets.is_floating_point() and not is_soft(outputs, batch.targets):
        raise UsageError(
            f"the {split.name} split has {batch.targets.dtype} targets, but "
            "cross_entropy and accuracy need integer labels, or probabilities of the classes that sum to 1"
        )
    classes = class_count(outputs, batch.targets)
    if classes is None:
        raise UsageError(
            f"the {split.name} split has targets of shape {tuple(batch.targets.shape)} for outputs of shape "
            f"{tuple(outputs.shape)}: expected outputs (N, classes) for labels (N,), with two classes or more, or one "
            "such row for each place of an example"
        )
    return None if is_soft(outputs, batch.targets) else classes


def overlap(one: Split, other: Split) -> int:
    """How many examples of ``other`` are also in ``one``, byte for byte (both in memory; 0 otherwise)."""
    if one.memory is None or other.memory is None:
        return 0
    known = set(_keys(one.memory))
    return sum(key in known for key in _keys(other.memory))


def _keys(batch: Batch) -> list[int]:
    columns = [t.reshape(len(t), -1).contiguous().view(torch.uint8) for t in tensors_of(batch.inputs)]
    return [hash(row.tobytes()) for row in torch.cat(columns, 1).numpy()]

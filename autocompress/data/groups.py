"""Which group each example of a split belongs to: what the task names, its class, or the tenth of its target."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autocompress.classes import class_count, is_soft, likeliest
from autocompress.data.batch import Batch
from autocompress.data.split import Split
from autocompress.errors import UsageError, one_line
from autocompress.nested import Nested
from autocompress.task import Task

BY_NAME, BY_CLASS, BY_TENTH, BY_LENGTH = "group", "class", "tenth of the target", "length"
ASKED_AT_ONCE = 64  # examples whose groups are asked for
TENTHS = 10
FEWEST_FOR_TENTHS = 100  # examples
DIGITS_TRIED = range(4, 18)  # of the ends of a tenth
MOST_SHOWN = 80  # characters of a group's name


@dataclass(frozen=True, eq=False)
class Groups:
    """by: what they are. names: of the groups. of: the group of each example, (N,), int64; -1 for none."""

    by: str
    names: tuple[str, ...]
    of: Tensor


def kind_of_groups(task: Task, outputs: Tensor, targets: Nested, examples: int) -> str | None:
    """What ``groups_of`` tells examples apart by, from the first of so many; None where nothing does. outputs: scored
    ones, of as many examples as the targets.
    """
    if task.groups is not None:
        return BY_NAME
    if not isinstance(targets, Tensor):
        return None
    if class_count(outputs, targets) is not None:
        return BY_CLASS if targets.dim() == 1 or (targets.dim() == 2 and is_soft(outputs, targets)) else None
    if targets.numel() != len(targets):
        return None
    if outputs.numel() == len(targets) and bool(((targets == 0) | (targets == 1)).all()):  # one logit of two classes
        return BY_CLASS
    return BY_TENTH if targets.is_floating_point() and examples >= FEWEST_FOR_TENTHS else None


def groups_of(kind: str, task: Task, split: Split, targets: Nested) -> Groups:
    """kind: what ``kind_of_groups`` says of the first examples; numbers that are all 0 and 1 there and others later are
    no classes. targets: of all. Raises UsageError for what ``Task.groups`` gives.
    """
    if kind == BY_NAME:
        return _named([name for batch in split.batches(ASKED_AT_ONCE) for name in group_names(task, batch)])
    assert isinstance(targets, Tensor)
    one_number = targets.is_floating_point() and targets.numel() == len(targets)
    if kind == BY_CLASS and not (one_number and bool((targets.frac() != 0).any() or targets.abs().max() > 1)):
        return _classes((likeliest(targets) if targets.numel() > len(targets) else targets.flatten()).long(), task)
    return _tenths(targets.flatten().double(), BY_TENTH)


def by_lengths(lengths: Tensor) -> Groups:
    """Tenths of the examples by their length, (N,)."""
    return _tenths(lengths.double(), BY_LENGTH)


def group_names(task: Task, batch: Batch) -> Sequence[Hashable]:
    """What ``Task.groups`` says of a batch, one label an example. Raises UsageError."""
    assert task.groups is not None
    try:
        given: Any = task.groups(batch.inputs, batch.targets)
        labels: list[Hashable] = [label.item() if hasattr(label, "item") else label for label in given]
        hash(tuple(labels))
    except Exception as error:
        raise UsageError(
            f"Task.groups raised {type(error).__name__}: {one_line(error)}; it is called with the inputs and the "
            "targets of a batch and gives one label an example"
        ) from error
    if len(labels) != len(batch):
        raise UsageError(f"Task.groups gave {len(labels)} labels for {len(batch)} examples: give one an example")
    return labels


def _named(labels: Sequence[Hashable]) -> Groups:
    known = sorted(set(labels), key=str)
    number = {label: at for at, label in enumerate(known)}
    return Groups(BY_NAME, _told_apart(map(str, known)), torch.tensor([number[label] for label in labels]))


def _told_apart(names: Iterable[str]) -> tuple[str, ...]:
    """Shortened to one line each; those that are alike then are numbered."""
    short = [one_line(name, MOST_SHOWN) for name in names]
    own, seen, again = set(short), set[str](), Counter[str]()
    found: list[str] = []
    for name in short:
        shown = name
        while shown in seen or (shown != name and shown in own):
            again[name] += 1
            shown = f"{name} ({again[name] + 1})"
        seen.add(shown)
        found.append(shown)
    return tuple(found)


def _classes(labels: Tensor, task: Task) -> Groups:
    present, of = torch.unique(labels, return_inverse=True)
    kept = present != task.ignored
    names = [label_name(task, int(label)) for label in present[kept]]
    place = torch.full((len(present),), -1).masked_scatter(kept, torch.arange(len(names)))
    return Groups(BY_CLASS, _told_apart(names), place[of])


def label_name(task: Task, label: int) -> str:
    """What the task calls a class; its number where it does not say."""
    labels = task.labels or ()
    return labels[label] if 0 <= label < len(labels) else str(label)


def _tenths(values: Tensor, by: str) -> Groups:
    """By the distribution of the values; tenths that are one value are one group."""
    edges = torch.quantile(values[:: max(1, len(values) // 1_000_000)], torch.linspace(0, 1, TENTHS + 1).double())
    present, of = torch.unique(torch.bucketize(values, torch.unique(edges[1:-1])), return_inverse=True)
    parts = [values[of == number] for number in range(len(present))]
    for digits in DIGITS_TRIED:  # as few as tell them apart
        names = [f"{float(part.min()):.{digits}g} to {float(part.max()):.{digits}g}" for part in parts]
        if len(set(names)) == len(names):
            break
    return Groups(by, _told_apart(names), of)

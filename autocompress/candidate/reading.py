"""A task's data, read and checked before anything is exported or measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from autocompress.data import (
    Split,
    as_held,
    check_split,
    feed_of,
    input_names,
    map_inputs,
    open_split,
    overlap,
    probe,
    spread,
)
from autocompress.errors import UsageError
from autocompress.plugin.contract import Context, Feed, Runtime
from autocompress.profile import HardwareProfile
from autocompress.task import Task, fingerprint


@dataclass(frozen=True)
class Read:
    """A task whose data was read and checked; nothing was exported or measured."""

    context: Context
    splits: dict[str, Split]
    fingerprint: str
    warnings: tuple[str, ...]


def read_task(task: Task, profile: HardwareProfile, runtime: Runtime, reference: Path, seed: int) -> Read:
    """Read the splits and refuse what no search could use. Raises UsageError naming the split, the count and the
    first index.
    """
    splits = {
        name: open_split(name, getattr(task, name))
        for name in ("train", "val", "test")
        if getattr(task, name) is not None
    }
    for name in ("train", "val"):
        if name not in splits:
            raise UsageError(f"the task has no {name} split")
    samples = {name: split.sample_digest() for name, split in splits.items()}
    steady = {name: digest for name, digest in samples.items() if digest == splits[name].sample_digest()}
    warnings = [f"the {name} split gives other examples each time it is read" for name in samples if name not in steady]
    for split in splits.values():
        probe(task, split.take(torch.arange(min(2, len(split)))))
        check_split(split, task)
    for name in ("val", "test"):
        shared = overlap(splits["train"], splits[name]) if name in splits else 0
        if shared:
            warnings.append(f"{shared} examples of the {name} split are also in the training split: its scores flatter")
    two = splits["train"].take(torch.arange(min(2, len(splits["train"])))).inputs
    context = Context(
        task=task,
        profile=profile,
        runtime=runtime,
        model=task.copy_of_model(),
        example_inputs=two if task.example_inputs is None else map_inputs(as_held, task.example_inputs),
        train=splits["train"],
        reference=reference,
        seed=seed,
        feeds=lambda count: _feeds(splits["train"], profile.batch, count),
    )
    return Read(context, splits, fingerprint(task, steady), tuple(warnings))


def commonest_class(task: Task, val: Split) -> float | None:
    if task.metric != "accuracy" or val.memory is None:
        return None
    targets = val.memory.targets
    return float(torch.unique(targets, return_counts=True)[1].max()) / targets.numel()


def _feeds(split: Split, batch: int, count: int) -> Iterator[Feed]:
    """Up to ``count`` training examples, spread over the split, as feeds at the profile's batch."""
    chosen = spread(len(split), count)
    for start in range(0, len(chosen), batch):
        indices = chosen[start : start + batch]
        if len(indices) < batch:
            indices = torch.cat([indices, indices[-1:].expand(batch - len(indices))])
        inputs = split.take(indices).inputs
        yield feed_of(inputs, input_names(inputs))


def sampled(split: Split, count: int) -> Split:
    """At most ``count`` examples of a split, spread over it."""
    kept = spread(len(split), count)
    held = split.take(kept) if split.memory else None
    return Split(split.name, len(kept), lambda indices: split.take(kept[list(indices)]), held)

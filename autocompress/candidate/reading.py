"""A task's data, read and checked before anything is exported or measured."""

from dataclasses import dataclass
from pathlib import Path

import torch

from autocompress.data import Split, read_data, spread_feeds
from autocompress.fingerprint import fingerprint_of, parts_of
from autocompress.plugin.contract import Context, Runtime
from autocompress.profile import HardwareProfile
from autocompress.task import Task


@dataclass(frozen=True)
class Read:
    """A task whose data was read and checked; nothing was exported or measured. parts: of its fingerprint, by name."""

    context: Context
    splits: dict[str, Split]
    parts: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.parts)


def read_task(task: Task, profile: HardwareProfile, runtime: Runtime, reference: Path, seed: int) -> Read:
    """Read the data and refuse what no search could use. Raises UsageError naming the split, the count and the first
    index.
    """
    data = read_data(task)
    train = data.splits["train"]
    context = Context(
        task=task,
        profile=profile,
        runtime=runtime,
        model=task.copy_of_model(),
        example_inputs=data.example_inputs,
        train=train,
        reference=reference,
        seed=seed,
        feeds=lambda count: spread_feeds(train, profile.batch, count),
    )
    return Read(context, data.splits, parts_of(task, data.digests), data.warnings)


def commonest_class(task: Task, val: Split) -> float | None:
    if task.metric != "accuracy" or val.memory is None:
        return None
    targets = val.memory.targets
    return float(torch.unique(targets, return_counts=True)[1].max()) / targets.numel()

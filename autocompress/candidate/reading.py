"""A task's data, read and checked before anything is exported or measured."""

from dataclasses import dataclass
from pathlib import Path

import torch

from autocompress.classes import likeliest
from autocompress.data import (
    OutputLayout,
    Reading,
    Split,
    check_profile_shapes,
    read_data,
    run_in_training_alone,
    spread_feeds,
)
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


def read_task(
    task: Task, profile: HardwareProfile, runtime: Runtime, reference: Path, seed: int, reading: Reading = Reading()
) -> Read:
    """Read the data and refuse what no search could use. Raises UsageError naming the split, the count and the first
    index. reading: where, and within which bounds.
    """
    parts = parts_of(task)  # before any of the task's functions is called
    data = read_data(task, reading)
    train = data.splits["train"]
    model = task.copy_of_model()
    check_profile_shapes(profile, data.layout, model, data.example_inputs)
    context = Context(
        task=task,
        profile=profile,
        runtime=runtime,
        model=model,
        example_inputs=data.example_inputs,
        layout=data.layout,
        train=train,
        reference=reference,
        seed=seed,
        feeds=lambda count: spread_feeds(train, profile.batch, count),
    )
    alone = run_in_training_alone(context.model, context.example_inputs)
    warnings = [f"{name} runs in training mode alone: it is trained along, and is not in the file" for name in alone]
    return Read(context, data.splits, parts | data.digests, (*data.warnings, *warnings))


def commonest_class(task: Task, val: Split, layout: OutputLayout) -> float | None:
    """The share of the commonest label, where the metric is the share of right answers and labels are at hand."""
    if not task.is_accuracy or val.memory is None:
        return None
    outputs, targets = layout.rows_of(layout.like)[layout.scored], val.memory.targets
    labels = likeliest(targets) if targets.shape[1:] == outputs.shape[1:] else targets
    labels = labels[labels != task.ignored]
    return float(torch.unique(labels, return_counts=True)[1].max()) / float(labels.numel())

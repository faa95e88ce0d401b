"""All splits of a task, read and checked."""

from dataclasses import dataclass

import torch

from autocompress.data.batch import Batch, as_held
from autocompress.data.checks import check_split, overlap
from autocompress.data.dynamic import free_axes, with_free_axes
from autocompress.data.layout import OutputLayout, output_layout
from autocompress.data.loading import open_split
from autocompress.data.split import Split
from autocompress.errors import UsageError
from autocompress.nested import map_tensors
from autocompress.task import Inputs, Task


@dataclass(frozen=True)
class TaskData:
    """splits: "train", "val" and, where the task has one, "test". digests: of a sample of each split that gives the
    same examples each time. example_inputs: the task's, or a batch of two. layout: of what the model returns.
    """

    splits: dict[str, Split]
    digests: dict[str, str]
    example_inputs: Inputs
    layout: OutputLayout
    warnings: tuple[str, ...]


def read_data(task: Task) -> TaskData:
    """Read the splits and refuse what no search could use. Raises UsageError naming the split, the count and the
    first index.
    """
    splits = {
        name: open_split(name, getattr(task, name), task.batch)
        for name in ("train", "val", "test")
        if getattr(task, name) is not None
    }
    for name in ("train", "val"):
        if name not in splits:
            raise UsageError(f"the task has no {name} split")
    samples = {name: split.sample_digest() for name, split in splits.items()}
    steady = {name: digest for name, digest in samples.items() if digest == splits[name].sample_digest()}
    warnings = [f"the {name} split gives other examples each time it is read" for name in samples if name not in steady]
    model = task.copy_of_model()
    own_inputs = None if task.example_inputs is None else map_tensors(as_held, task.example_inputs)
    free = free_axes(task, splits, own_inputs)
    with free.taken_by_the_model():
        layouts = {name: output_layout(task, model, _first_two(split)) for name, split in splits.items()}
        layout = with_free_axes(layouts["val"], free, model, _first_two(splits["val"]).inputs)
    warnings += free.said
    for split in splits.values():
        check_split(split, task)
    for name in ("val", "test"):
        shared = overlap(splits["train"], splits[name]) if name in splits else 0
        if shared:
            warnings.append(f"{shared} examples of the {name} split are also in the training split: its scores flatter")
    example_inputs = _first_two(splits["train"]).inputs if own_inputs is None else own_inputs
    return TaskData(splits, steady, example_inputs, layout, tuple(warnings))


def _first_two(split: Split) -> Batch:
    return split.take(torch.arange(min(2, len(split))))

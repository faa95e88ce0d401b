"""All splits of a task, read and checked."""

from dataclasses import dataclass, replace

from autocompress.data.batch import as_held
from autocompress.data.broadcasting import broadcast_warnings
from autocompress.data.checks import check_split
from autocompress.data.class_axis import classes_are_last
from autocompress.data.dynamic import free_axes, with_free_axes
from autocompress.data.first_examples import FirstExamples
from autocompress.data.layout import OutputLayout, output_layout
from autocompress.data.loading import open_split
from autocompress.data.overlap import Overlaps
from autocompress.data.own_weights import refuse_weights_of_others
from autocompress.data.reading import Reading
from autocompress.data.split import Split
from autocompress.data.steadiness import refuse_unsteady
from autocompress.errors import UsageError
from autocompress.kept_parts import what_is_frozen
from autocompress.nested import map_tensors
from autocompress.plain_model import what_is_taken
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


def read_data(task: Task, reading: Reading = Reading()) -> TaskData:
    """Read the splits and refuse what no search could use. Raises UsageError naming the split, the count and the
    first index.
    """
    said: list[str] = []
    noting = replace(reading, say=said.append)
    splits = {
        name: open_split(name, getattr(task, name), task.batch, noting)
        for name in ("train", "val", "test")
        if getattr(task, name) is not None
    }
    for name in ("train", "val"):
        if name not in splits:
            raise UsageError(f"the task has no {name} split")
    digests = {name: split.sample_digest() for name, split in splits.items() if split.steady}
    said += [f"the {name} split gives other examples each time it is read" for name in splits if name not in digests]
    said += what_is_taken(task.model)
    model = task.copy_of_model()
    said += what_is_frozen(model)
    own_inputs = None if task.example_inputs is None else map_tensors(as_held, task.example_inputs)
    free = free_axes(task, splits, own_inputs)
    with free.taken_by_the_model():
        firsts = {name: FirstExamples.of(split, model) for name, split in splits.items()}
        refuse_unsteady(model, firsts["val"].batch.inputs, firsts["val"].returned)
        layout = output_layout(task, model, firsts["val"].batch)
        layout = with_free_axes(layout, free, model, firsts["val"].batch.inputs)
    refuse_weights_of_others(task, firsts["val"])
    task.classes_last = classes_are_last(task, layout, firsts.values())
    said += free.said
    if firsts["val"].depends_on_the_others(task, model):
        said.append(
            "what the model answers for an example depends on the others in its batch (a norm over the batch does "
            "that): files are scored at the profile's batch, and another one gives another score"
        )
    overlaps = Overlaps(splits, reading.say)
    for first in firsts.values():
        check_split(first, task, overlaps)
        said += broadcast_warnings(task, first)
    said += overlaps.found()
    if "test" not in splits:
        said.append(
            "there is no test split: the validation split chooses the model and alone judges it, which flatters it"
        )
    example_inputs = firsts["train"].batch.at(slice(2)).inputs if own_inputs is None else own_inputs
    return TaskData(splits, digests, example_inputs, layout, tuple(dict.fromkeys(said)))

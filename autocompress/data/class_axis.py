"""On which axis of the scored output the classes are, for all batches of a task."""

from collections.abc import Iterable

from torch import Tensor

from autocompress.data.first_examples import FirstExamples
from autocompress.data.layout import OutputLayout
from autocompress.task import Task


def classes_are_last(task: Task, layout: OutputLayout, firsts: Iterable[FirstExamples]) -> bool:
    """Whether they are on the last axis and not on the second: as the labels of a batch show, or, where there are as
    many places as classes in each, because the second axis varies in size.
    """
    for first in firsts:
        outputs, targets = first.outputs(task), first.batch.targets
        if not isinstance(targets, Tensor) or outputs.dim() < 3:
            return False
        second = outputs.shape[:1] + outputs.shape[2:] == targets.shape
        if second != (outputs.shape[:-1] == targets.shape):
            return not second
    return 1 in layout.varying.get(layout.scored, {})

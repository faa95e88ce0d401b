"""A metric as an object that is told outputs and targets piece by piece: torchmetrics' own, or the user's."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from autocompress.errors import AutocompressError, CandidateFailed, UsageError, one_line
from autocompress.metric_names import BINARY, MULTICLASS, MULTILABEL
from autocompress.nested import Nested
from autocompress.task import Task, takes_one_tensor

Arguments = Callable[[Nested, Nested, bool], tuple[Any, Any]]  # returned, targets, probabilities -> what it is told


class MetricObject:
    """A copy of a metric; the one that the user holds is not touched.

    arguments: of what the model returns and the targets, what the metric is told; with whether the scored output is of
    probabilities, which an object of torchmetrics would decide anew for each piece. entry: of a dict that it computes,
    the one that counts. Raises UsageError when it cannot be copied.
    """

    def __init__(self, task: Task, metric: Any, arguments: Arguments | None = None, entry: str | None = None) -> None:
        try:
            self.metric: Any = copy.deepcopy(metric)
        except Exception as error:  # the user's object raises anything
            raise UsageError(
                f"Task.metric cannot be copied: {type(error).__name__}: {one_line(error, 120)}; keep open files and "
                "other resources out of it"
            ) from error
        self._task = task
        self._arguments = arguments or _own_arguments(task, self.metric)
        self._entry = entry
        self.probabilities = False  # what the reference's scored output is, and so that of all files

    def reset(self) -> None:
        with metric_called():
            self.metric.reset()

    def update(self, returned: Nested, targets: Nested) -> None:
        """Raises CandidateFailed."""
        with metric_called(), torch.no_grad():
            self.metric.update(*self._arguments(returned, targets, self.probabilities))

    def computed(self) -> float:
        """Its value for what it was told. Raises CandidateFailed when it gives no number."""
        with metric_called(), torch.no_grad():
            value = self.metric.compute()
        return one_number(value, self._entry)

    def are_probabilities(self, returned: Nested) -> bool:
        """Whether the scored output lies between 0 and 1, everywhere."""
        scored = self._task.scored(returned)
        return bool((scored >= 0).all() and (scored <= 1).all())

    def __call__(self, returned: Nested, targets: Nested) -> float:
        """The metric of all there is. Raises CandidateFailed."""
        self.reset()
        self.update(returned, targets)
        value = self.computed()
        self.reset()  # it may hold all outputs
        return value


def _own_arguments(task: Task, metric: Any) -> Arguments:
    if not takes_one_tensor(metric):
        return lambda returned, targets, probabilities: (returned, targets)
    squash = squashing(metric)
    return lambda returned, targets, probabilities: (
        task.scored(returned) if probabilities else squash(task.scored(returned)),
        targets,
    )


def squashing(metric: Any) -> Callable[[Tensor], Tensor]:
    """What makes probabilities of logits where the metric counts on them, as its class in torchmetrics would."""
    name = type(metric).__name__
    if name.startswith((BINARY, MULTILABEL)):
        return torch.sigmoid
    if name.startswith(MULTICLASS) and getattr(metric, "thresholds", None) is not None:
        return lambda outputs: outputs.softmax(1)
    return lambda outputs: outputs


@contextmanager
def metric_called() -> Iterator[None]:
    """The boundary to the user's metric: whatever it raises fails the file that it was to score. Raises
    CandidateFailed.
    """
    try:
        yield
    except AutocompressError:
        raise
    except Exception as error:
        raise CandidateFailed(f"Task.metric raises {type(error).__name__}: {one_line(error)}") from error


def one_number(value: Any, entry: str | None = None) -> float:
    """What a metric computed as a number. Raises CandidateFailed when it is none, naming the entries of a dict."""
    if isinstance(value, Mapping):
        if entry is None or entry not in value:
            lacks = "gives several numbers" if entry is None else f"gives no {entry!r}"
            names = ", ".join(map(str, value))
            example = next((str(name) for name, found in value.items() if _is_number(found)), "name")
            raise CandidateFailed(
                f"Task.metric {lacks}, but {names}: say which counts, as in Task(metric=(metric, {example!r}))"
            )
        value = value[entry]
    if not _is_number(value):
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise CandidateFailed(f"Task.metric gives {what}: expected one number")
    return float(value)


def _is_number(value: Any) -> bool:
    if hasattr(value, "numel"):
        return bool(value.numel() == 1)
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True

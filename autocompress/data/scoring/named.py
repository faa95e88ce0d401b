"""A metric of torchmetrics by its name: what the outputs and targets are tells which class of it."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from autocompress.classes import class_axis, class_count, labels_of
from autocompress.data.scoring.metric_object import MetricObject
from autocompress.errors import UsageError, one_line
from autocompress.losses import as_shaped
from autocompress.metric_names import BINARY, MULTICLASS, MULTILABEL, REGRESSION, NamedMetric
from autocompress.nested import Nested
from autocompress.task import Task


def named_object(task: Task, named: NamedMetric, outputs: Tensor, targets: Nested) -> MetricObject:
    """outputs, targets: of some examples, the scored output first. Of two classes the metric is the second's, where it
    is not one over both; of more of them, and of several labels, the mean over them as torchmetrics takes it. Raises
    UsageError when the metric is not one of such targets.
    """
    kind, count = kind_of(outputs, targets)
    if kind != MULTICLASS and REGRESSION in named.classes:
        kind = REGRESSION
    if kind == MULTICLASS and count == 2 and not named.of_both and BINARY in named.classes:
        kind = BINARY
    if kind == BINARY and (named.of_both or BINARY not in named.classes) and MULTICLASS in named.classes:
        kind, count = MULTICLASS, 2
    if kind not in named.classes:
        fits = ", ".join(filter(None, named.classes)).lower() or "regression"
        raise UsageError(
            f"Task.metric {named.name!r} is one of {fits} targets, and the outputs are of shape {tuple(outputs.shape)} "
            f"for {targets.dtype} targets of shape {tuple(targets.shape)}: give another, or a callable"
        )
    given: dict[str, Any] = dict(named.arguments)
    if kind != REGRESSION:
        given |= {"ignore_index": task.ignored, "validate_args": False}
    if kind in (MULTICLASS, MULTILABEL):
        given["num_classes" if kind == MULTICLASS else "num_labels"] = count
    try:
        metric = _made(named.classes[kind], given)
    except Exception as error:
        raise UsageError(
            f"Task.metric {named.name!r} cannot be made: {type(error).__name__}: {one_line(error, 160)}; give an "
            "object of torchmetrics"
        ) from error
    return MetricObject(task, metric, _Arguments(task, kind))


def kind_of(outputs: Tensor, targets: Nested) -> tuple[str, int]:
    """The kind of metric that fits, and how many classes or labels there are. Raises UsageError for targets that are no
    tensor.
    """
    if not isinstance(targets, Tensor):
        raise UsageError(
            f"the targets are no tensor but {type(targets).__name__}, which no metric by name takes: give Task.metric "
            "as a callable or an object"
        )
    classes = class_count(outputs, targets)
    if classes is not None:
        return MULTICLASS, classes
    binary = bool(((targets == 0) | (targets == 1) | (targets < 0)).all())
    if binary and outputs.dim() == 2 and outputs.shape == targets.shape and outputs.shape[1] > 1:
        return MULTILABEL, outputs.shape[1]
    if binary and outputs.numel() == targets.numel():
        return BINARY, 2
    return REGRESSION, 0


class _Arguments:
    """What a metric of one kind is told; its own outputs for two classes are one number, above 0 for the second."""

    def __init__(self, task: Task, kind: str) -> None:
        self._task = task
        self._kind = kind

    def __call__(self, returned: Nested, targets: Tensor, probabilities: bool) -> tuple[Tensor, Tensor]:
        outputs = self._task.scored(returned)
        if self._kind == REGRESSION:
            return outputs, as_shaped(outputs, targets).to(outputs.dtype)
        if self._kind == MULTILABEL:
            return outputs if probabilities else outputs.sigmoid(), targets.long()
        one_each = outputs.numel() == targets.numel()
        if self._kind == MULTICLASS and not one_each:
            return outputs.movedim(class_axis(outputs, targets, self._task.classes_last), 1), labels_of(
                outputs, targets
            ).long()
        if one_each:
            likely = outputs.reshape(targets.shape)
            likely = likely if probabilities else likely.sigmoid()
        else:
            of_class = outputs.movedim(class_axis(outputs, targets, self._task.classes_last), -1)
            likely, targets = (of_class[..., 1] - of_class[..., 0]).sigmoid(), labels_of(outputs, targets)
        return torch.stack([1 - likely, likely], 1) if self._kind == MULTICLASS else likely, targets.long()


def _made(cls: type[Metric], arguments: dict[str, Any]) -> Metric:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it holds all outputs: so does whoever calls it
        return cls(**arguments)

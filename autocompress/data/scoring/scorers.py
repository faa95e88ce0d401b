"""Which scorer a task's metric has."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autocompress.data.batch import Batch, take_rows
from autocompress.data.layout import OutputLayout
from autocompress.data.model_call import call
from autocompress.data.scoring.answers import AnswersScorer
from autocompress.data.scoring.metric_object import MetricObject, metric_called, one_number
from autocompress.data.scoring.scorer import Scorer
from autocompress.data.scoring.whole import WholeScorer
from autocompress.metric_names import ACCURACY, is_object, known_direction, metric_and_entry, named_metric
from autocompress.nested import Nested
from autocompress.task import Task, takes_one_tensor

EXAMPLES_THAT_TELL = 64  # that tell what kind of metric fits


def scorer_of(task: Task, layout: OutputLayout, first: Callable[[int], Batch]) -> Scorer:
    """first: so many examples. Raises UsageError when the metric does not fit outputs and targets."""
    metric, entry = metric_and_entry(task.metric)
    if isinstance(metric, str) and metric == ACCURACY:  # == with a metric of torchmetrics makes another metric
        return AnswersScorer(task, layout)
    if isinstance(metric, str):
        from autocompress.data.scoring.named import named_object  # torchmetrics takes a second or two

        targets = first(EXAMPLES_THAT_TELL).targets
        given = named_object(task, named_metric(metric), outputs_like(layout, targets), targets)
    elif is_object(metric):
        given = MetricObject(task, metric, entry=entry)
    else:
        return WholeScorer(task, layout, partial(metric_value, task, metric, entry), **_direction(task, metric))
    given.probabilities = given.are_probabilities(reference_returns(task, first(EXAMPLES_THAT_TELL)))
    return _of_object(task, layout, given)


def reference_returns(task: Task, batch: Batch) -> Nested:
    with torch.inference_mode():
        return call(task.copy_of_model(), batch.inputs)


def _of_object(task: Task, layout: OutputLayout, given: MetricObject) -> Scorer:
    direction = _direction(task, given.metric)
    if takes_one_tensor(given.metric) or _is_of_torchmetrics(given.metric):
        from autocompress.data.scoring.sums import SumsScorer, adds_up

        if adds_up(given.metric):
            return SumsScorer(task, layout, given, **direction)
    return WholeScorer(task, layout, given, **direction)


def _is_of_torchmetrics(metric: object) -> bool:
    return any(base.__module__.startswith("torchmetrics.") for base in type(metric).__mro__)


def _direction(task: Task, metric: object) -> dict[str, bool]:
    known = known_direction(metric)
    if known is not None:
        return {"maximize": known, "surely": True}
    return {"maximize": task.maximize is not False, "surely": False}


def metric_value(task: Task, metric: Any, entry: str | None, returned: Nested, targets: Nested) -> float:
    """The user's callable. Raises CandidateFailed."""
    with metric_called():
        value = metric(task.scored(returned) if takes_one_tensor(metric) else returned, targets)
    return one_number(value, entry)


def outputs_like(layout: OutputLayout, targets: Nested) -> Tensor:
    """The scored output, of as many examples as the targets are of."""
    rows = layout.rows_of(layout.like)[layout.scored]
    if not isinstance(targets, Tensor):
        return rows
    return take_rows(rows, torch.arange(len(targets)) % len(rows))  # type: ignore[no-any-return]

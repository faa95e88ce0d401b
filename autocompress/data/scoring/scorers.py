"""Which scorer a task's metric has."""

from functools import partial
from typing import Any

from autocompress.classes import accuracy
from autocompress.data.layout import OutputLayout
from autocompress.data.scoring.answers import AnswersScorer
from autocompress.data.scoring.scorer import Scorer
from autocompress.data.scoring.whole import WholeScorer
from autocompress.errors import UsageError
from autocompress.nested import Nested
from autocompress.task import Metric, Task, is_metric_object, takes_one_tensor

METRICS = {"accuracy": accuracy}


def scorer_of(task: Task, layout: OutputLayout) -> Scorer:
    """Raises UsageError when the task's metric is none."""
    if task.metric == "accuracy":
        return AnswersScorer(task, layout)
    return WholeScorer(task, layout, metric_of(task))


def metric_of(task: Task) -> Metric:
    """The metric of what the model returns, whole, and the targets, in its own direction. Raises UsageError."""
    metric = task.metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise UsageError(f"Task.metric must be one of {', '.join(METRICS)} or a callable, not {metric!r}")
        named = partial(METRICS[metric], ignored=task.ignored)
        return lambda returned, targets: named(task.scored(returned), targets)
    whole = partial(_computed, metric) if is_metric_object(metric) else metric
    if takes_one_tensor(metric):
        return lambda returned, targets: whole(task.scored(returned), targets)
    return whole


def _computed(metric: Any, returned: Nested, targets: Nested) -> float:
    metric.reset()
    metric.update(returned, targets)
    return float(metric.compute())

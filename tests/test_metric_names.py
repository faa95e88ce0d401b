"""What a task may give as its metric, and in which direction it counts."""

from typing import Any

import pytest
from torch import nn
from torchmetrics.classification import BinaryF1Score
from torchmetrics.regression import MeanAbsoluteError

from autocompress.errors import UsageError
from autocompress.metric_names import named_metric
from autocompress.task import Task


def make(metric: Any, **others: Any) -> Task:
    return Task(name="t", model=nn.Identity(), train=None, val=None, metric=metric, **others)


@pytest.mark.parametrize("written", ["accuracy", "Accuracy", "acc", "top-1 accuracy"])
def test_accuracy_is_this_packages_own_however_it_is_written(written: str):
    assert make(written).metric == "accuracy"


@pytest.mark.parametrize(
    ("written", "near"), [("f1_scor", "f1score"), ("mean_io", "meaniou"), ("rsme", "rmse"), ("auroq", "auroc")]
)
def test_an_unknown_name_is_refused_at_once_with_a_near_one(written: str, near: str):
    with pytest.raises(UsageError, match=f"unknown metric .*did you mean '{near}'"):
        make(written)


@pytest.mark.parametrize(("name", "better"), [("rmse", False), ("MAE", False), ("mean IoU", True), ("R2", True)])
def test_torchmetrics_says_which_direction_is_better(name: str, better: bool):
    assert named_metric(name).higher_is_better is better


@pytest.mark.parametrize(
    ("metric", "maximize", "said"),
    [
        ("rmse", True, "of rmse lower values are better"),
        ("accuracy", False, "of accuracy higher values are better"),
        (MeanAbsoluteError(), True, "of MeanAbsoluteError lower values are better"),
        (BinaryF1Score(), False, "of BinaryF1Score higher values are better"),
    ],
)
def test_a_direction_that_is_not_the_metrics_is_refused(metric: Any, maximize: bool, said: str):
    with pytest.raises(UsageError, match=said):
        make(metric, maximize=maximize)


def test_a_direction_that_is_the_metrics_is_taken():
    assert make("rmse", maximize=False).maximize is False
    assert make(lambda outputs, targets: 0.0, maximize=False).maximize is False


@pytest.mark.parametrize(
    ("metric", "said"),
    [(3, "must be a name, a callable, an object"), (None, "must be"), (BinaryF1Score, "is the class BinaryF1Score")],
)
def test_what_is_no_metric_is_refused(metric: Any, said: str):
    with pytest.raises(UsageError, match=f"Task.metric {said}"):
        make(metric)


@pytest.mark.parametrize(
    ("metric", "name"),
    [((BinaryF1Score(), "map"), "map"), (BinaryF1Score(), "BinaryF1Score"), ("mean IoU", "mean IoU")],
)
def test_a_metric_has_a_name(metric: Any, name: str):
    assert make(metric).metric_name == name

"""Logit distillation: the loss is the one of the paper, and alpha follows its schedule."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autocompress.plugin.contract import Context, TrainStep
from autocompress.task import Task
from autocompress_plugins.distillation.distill_logits import DistillLogits

GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS, TEACHER = (torch.randn(5, 4, generator=GENERATOR) for _ in range(2))
LABELS = torch.arange(5) % 4


def step(
    progress: float = 0.0, outputs: Tensor = OUTPUTS, teacher: Tensor = TEACHER, targets: Tensor = LABELS
) -> TrainStep:
    return TrainStep(outputs, targets, outputs, teacher, progress)


def test_loss_is_the_papers(tiny_context: Context) -> None:
    term = DistillLogits().hook({"alpha": 0.7, "temperature": 4.0, "schedule": "constant"}, tiny_context).loss(step())
    expected = 0.0
    for ours, theirs in zip(OUTPUTS.numpy(), TEACHER.numpy(), strict=True):
        p, q = (np.exp(row / 4.0) / np.exp(row / 4.0).sum() for row in (theirs, ours))
        expected += 16.0 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / len(OUTPUTS)
    assert float(term.value) == pytest.approx(expected, rel=1e-5)
    assert (term.weight, term.task_scale) == pytest.approx((0.7, 0.3))


@pytest.mark.parametrize("form", ["regression"], indirect=True)
def test_regression_matches_the_outputs_themselves(form: Any, make_context: Any) -> None:
    context = make_context(form[0])
    assert "temperature" not in [p.name for p in DistillLogits().parameters(context)]
    outputs, teacher = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    term = (
        DistillLogits().hook({"alpha": 0.5, "schedule": "constant"}, context).loss(step(0, outputs, teacher, teacher))
    )
    assert float(term.value) == pytest.approx(2.5)


def smoothed(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets, label_smoothing=0.1)


def worst_class(outputs: Tensor, targets: Tensor) -> float:
    right = outputs.argmax(1) == targets
    return min(float(right[targets == label].float().mean()) for label in targets.unique())


def test_a_classifier_with_a_loss_and_a_metric_of_its_own_is_one(tiny_task: Task, make_context: Any) -> None:
    context = make_context(replace(tiny_task, loss=smoothed, metric=worst_class))
    params = {p.name: p.default for p in DistillLogits().parameters(context)}
    assert params["temperature"] == 4.0
    shifted = TEACHER + torch.arange(5.0)[:, None]  # softened outputs do not see what is added to a whole row
    term = DistillLogits().hook(params, context).loss(step(outputs=shifted, teacher=TEACHER))
    assert float(term.value) == pytest.approx(0, abs=1e-5)


def test_whole_numbers_to_be_met_are_no_classes(tiny_task: Task, make_context: Any) -> None:
    """How many there are of something, from one output."""
    x, counts = tiny_task.train
    regressor = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    task = Task("counts", regressor, (x, counts), (x, counts), loss=squared, metric=negative_squared)
    context = make_context(task)
    assert "temperature" not in {p.name for p in DistillLogits().parameters(context)}


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets).square().mean()


def negative_squared(outputs: Tensor, targets: Tensor) -> float:
    return -float(squared(outputs, targets))


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"),
    [("constant", 0.8, 0.8, 0.8), ("falling", 0.8, 0.4, 0.0), ("rising", 0.0, 0.4, 0.8)],
)
def test_the_teachers_weight_follows_its_schedule(
    schedule: str, start: float, middle: float, end: float, tiny_context: Context
) -> None:
    hook = DistillLogits().hook({"alpha": 0.8, "temperature": 2.0, "schedule": schedule}, tiny_context)
    terms = [hook.loss(step(progress)) for progress in (0.0, 0.5, 1.0)]
    assert [term.weight for term in terms] == pytest.approx([start, middle, end])
    assert [term.task_scale for term in terms] == pytest.approx([1 - start, 1 - middle, 1 - end])


def test_a_recipe_from_before_there_were_schedules_is_constant(tiny_context: Context) -> None:
    hook = DistillLogits().hook({"alpha": 0.8, "temperature": 2.0}, tiny_context)
    assert hook.loss(step(0.0)).weight == hook.loss(step(1.0)).weight == 0.8


def test_the_teacher_is_believed_more_than_wrong_labels(wrong_labels: Any, labels_alone: float) -> None:
    params = {"alpha": 1.0, "temperature": 2.0, "schedule": "constant"}
    assert wrong_labels(lambda context: [DistillLogits().hook(params, context)]) > labels_alone + 0.05

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


class Several(nn.Module):
    """The tiny images as outputs of every kind; the map's second channel is a thousand times its first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 6, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.layer(x)
        pooled = h.mean((2, 3))
        return {
            "logits": pooled[:, :4],
            "size": 100 * pooled[:, 4:5],
            "level": torch.stack([h[:, 0], 1000 * h[:, 1]], 1),
            "vector": nn.functional.normalize(h[:, 2].flatten(1)),
            "frames": h[:, 3].transpose(0, 1),
            "answer": pooled.argmax(1),
        }


@pytest.fixture
def several(tiny_task: Task, make_context: Any) -> Context:
    def loss(returned: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(returned["logits"], targets["kind"])

    (x, labels), torch_seed = tiny_task.train, torch.manual_seed(0)
    assert torch_seed
    pair = (x, {"kind": labels, "size": torch.randn(len(x), 1)})
    return make_context(replace(tiny_task, model=Several(), train=pair, val=pair, test=None, loss=loss, metric=len))


def taught(context: Context, heads: dict[str, Tensor], teacher: dict[str, Tensor], targets: Any) -> float | None:
    hook = DistillLogits().hook({"alpha": 1.0, "temperature": 1.0, "schedule": "constant"}, context)
    hook.wrap(nn.Identity())
    scored = context.layout.scored
    given = TrainStep(None, targets, heads[scored], teacher[scored], 0.0, heads=heads, teacher_heads=teacher)
    term = hook.loss(given)
    return None if term is None else float(term.value)


def rows(context: Context) -> tuple[dict[str, Tensor], Any]:
    batch = next(context.train_batches(64))
    with torch.no_grad():
        return context.layout.rows_of(context.model(batch.inputs)), batch.targets


def test_every_output_is_taught_and_a_change_of_any_is_seen(several: Context) -> None:
    teacher, targets = rows(several)
    assert taught(several, teacher, teacher, targets) == pytest.approx(0, abs=1e-5)
    for name in ("logits", "size", "level", "vector", "frames"):
        heads = teacher | {name: teacher[name].flip(0)}
        assert taught(several, heads, teacher, targets) > 1e-4, name
    assert taught(several, teacher | {"answer": teacher["answer"] + 1}, teacher, targets) == pytest.approx(0, abs=1e-5)


def test_what_cannot_be_taught_is_said(several: Context) -> None:
    assert DistillLogits().left_alone(several) == {"answer": "no floating point"}
    assert DistillLogits().refuses(several) is None


def test_outputs_and_channels_of_other_units_weigh_alike(several: Context) -> None:
    """One spread off counts as one, whatever the spread is."""
    teacher, targets = rows(several)
    for name, channels in (("size", [0]), ("level", [0, 1])):
        values = []
        for channel in channels:
            moved = teacher[name].clone()
            moved[:, channel] += moved[:, channel].std()
            values.append(5 * len(channels) * taught(several, teacher | {name: moved}, teacher, targets))
        assert values == pytest.approx([1.0] * len(values), rel=0.35), name


def test_an_output_that_training_mode_lacks_is_passed_over(several: Context) -> None:
    teacher, targets = rows(several)
    logits = {"logits": teacher["logits"].flip(0)}
    assert taught(several, logits, teacher, targets) > 1e-4
    assert taught(several, {"logits": teacher["logits"][:, :2]}, teacher, targets) is None


def test_places_that_do_not_count_are_not_taught(tiny_task: Task, make_context: Any) -> None:
    model = nn.Conv2d(1, 4, 1)
    x, labels = tiny_task.train
    places = labels[:, None, None].expand(-1, 8, 8).clone()
    places[:, 0] = 255
    loss = nn.CrossEntropyLoss(ignore_index=255)
    context = make_context(replace(tiny_task, model=model, train=(x, places), val=(x, places), test=None, loss=loss))
    teacher, outputs = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    hook = DistillLogits().hook({"alpha": 1.0, "temperature": 2.0, "schedule": "constant"}, context)
    one = float(hook.loss(step(0, outputs, teacher, places[:2])).value)
    outputs[:, :, 0] += torch.randn(2, 4, 8)
    assert float(hook.loss(step(0, outputs, teacher, places[:2])).value) == pytest.approx(one)
    whole = nn.functional.kl_div(
        (outputs / 2).log_softmax(1), (teacher / 2).log_softmax(1), reduction="none", log_target=True
    )
    assert one == pytest.approx(4 * float(whole.sum(1)[:, 1:].mean()), rel=1e-5)


def test_a_model_of_whole_numbers_is_refused_with_the_reason(tiny_task: Task, make_context: Any) -> None:
    class Answers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).mean((2, 3)).argmax(1)

    loss, metric = squared, negative_squared
    context = make_context(replace(tiny_task, model=Answers(), loss=loss, metric=metric))
    assert DistillLogits().refuses(context) == "no output can be taught: output is no floating point"


def test_outputs_of_every_kind_are_taught_in_the_training_loop(several: Context, trained: Any) -> None:
    teacher, targets = rows(several)

    def away(model: nn.Module) -> float:
        with torch.no_grad():
            found = several.layout.rows_of(model.eval()(next(several.train_batches(64)).inputs))
        return taught(several, found, teacher, targets)

    torch.manual_seed(3)
    student = Several()
    before = away(student)
    hook = DistillLogits().hook({"alpha": 1.0, "temperature": 1.0, "schedule": "constant"}, several)
    assert away(trained(several, student, [hook], 1024)) < 0.7 * before

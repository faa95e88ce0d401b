"""The examples of losses and heads open: the loss has a gradient, the metric a value, every output is taught."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autocompress.classes import accuracy
from autocompress.data import ScoredSet, call, read_data
from autocompress.task import Task
from autocompress_plugins.distillation.output_kinds import OutputKind, output_kinds

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZES = {"examples": 24, "steps": 2}
KINDS = {
    "detector": {"fine": OutputKind.MAP, "coarse": OutputKind.MAP},
    "segmentation": {"output": OutputKind.CLASSES},
    "recognizer": {"output": OutputKind.CLASSES},
    "embedding": dict.fromkeys(["anchor", "positive", "negative"], OutputKind.EMBEDDING),
    "translation": {"output": OutputKind.CLASSES},
}

MakeTask = Callable[[str], Task]


@pytest.fixture
def make_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeTask:
    """``make_task(name)``: the example's task, small and hardly trained, on an import path that is put back."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before = set(sys.modules)
    yield lambda name: __import__(name).task(**SIZES)
    for name in set(sys.modules) - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def score(task: Task) -> float:
    """Higher is better. The model is hardly trained; by the statistics of its batch norms it would answer one class."""
    data, model = read_data(task), task.copy_of_model().train()
    val = ScoredSet(task, data.splits["val"], data.layout)
    with torch.no_grad():
        pieces = [(data.layout.rows_of(call(model, b.inputs)), b.targets) for b in val.split.batches(64)]
    return val.value(val.kept(pieces))


def direct(task: Task) -> float:
    """The metric of all validation outputs at once, in its own direction."""
    val = read_data(task).splits["val"].take(torch.arange(SIZES["examples"] // 4))
    with torch.no_grad():
        returned = call(task.copy_of_model().train(), val.inputs)
    if isinstance(task.metric, str):
        return accuracy(returned, val.targets)
    if not hasattr(task.metric, "update"):
        return float(task.metric(returned, val.targets))
    task.metric.reset()
    task.metric.update(returned, val.targets)
    return float(task.metric.compute())


@pytest.mark.parametrize("name", KINDS)
def test_an_example_opens_and_can_be_trained_and_scored(name: str, make_task: MakeTask) -> None:
    task = make_task(name)
    data, model = read_data(task), task.copy_of_model().train()
    assert set(data.splits) == {"train", "val", "test"}
    batch = data.splits["train"].take(torch.arange(8))
    task.loss_fn(call(model, batch.inputs), batch.targets).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert score(task) == pytest.approx(-direct(task) if task.maximize is False else direct(task), abs=1e-6)
    assert {head: found.kind for head, found in output_kinds(task).items()} == KINDS[name]


def test_what_was_trained_is_kept(make_task: MakeTask, tmp_path: Path) -> None:
    first, again = (make_task("embedding").model.state_dict() for _ in range(2))
    assert len(list(tmp_path.rglob("embedding-*.safetensors"))) == 1
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_the_detector_finds_what_its_maps_say(make_task: MakeTask) -> None:
    task = make_task("detector")
    detector = sys.modules["detector"]
    targets = task.val[1]

    def maps(level: str) -> Tensor:
        wanted = detector.wanted_maps(targets, level)
        digits = 20 * torch.nn.functional.one_hot(wanted[:, 5].long(), 10).movedim(3, 1)
        return torch.cat([40 * wanted[:, :1] - 20, wanted[:, 1:5], digits], 1)

    task.metric.reset()
    task.metric.update({level: maps(level) for level in detector.STRIDES}, targets)
    assert task.metric.compute() == pytest.approx(1)
    task.metric.reset()
    task.metric.update({level: -maps(level) for level in detector.STRIDES}, targets)
    assert task.metric.compute() < 0.1


def test_precision_by_hand(make_task: MakeTask) -> None:
    """Two boxes: one found exactly, one missed by half, and a third found where there is none."""
    make_task("detector")
    precision = sys.modules["mean_average_precision"].BoxPrecision()
    there = {"boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), "labels": torch.tensor([1, 1])}
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 26.25]])
    found = {"boxes": boxes, "scores": torch.tensor([0.9, 0.8, 0.7]), "labels": torch.tensor([1, 1, 1])}
    precision.update([found], [there])
    # up to an overlap of 0.60 both count, at precisions of 1 and 2/3; over it the first alone, for recalls up to 1/2
    both, one = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert precision.compute() == pytest.approx((3 * both + 7 * one) / 10)

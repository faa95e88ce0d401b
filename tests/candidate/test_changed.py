"""Which examples a file does worse on, and what both files answer there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torchmetrics import MeanSquaredError

from autocompress import Task
from autocompress.candidate.changed import changed_examples
from autocompress.candidate.request import ModelFile, Scored
from autocompress.candidate.score import score_files
from autocompress.data import read_data
from autocompress.data.reading import Reading
from autocompress.data.scoring.sums import BLOCKS
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Recipe

COUNT, SHIFT = 40, 0.25
Changed = Callable[..., Any]


class Line(nn.Module):
    """One number an example, without an axis for it: the sum of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)
        nn.init.ones_(self.net.weight)
        nn.init.zeros_(self.net.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(-1)  # type: ignore[no-any-return]


class Squares(nn.Module):
    """Whether the left or the right half of an image is brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(64, 2)
        halves = torch.zeros(2, 8, 8)
        halves[0, :, :4] = halves[1, :, 4:] = 1.0
        self.net.weight = nn.Parameter(halves.flatten(1))
        nn.init.zeros_(self.net.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1))  # type: ignore[no-any-return]


@pytest.fixture
def changed(open_quickly: Callable[..., Any], plugins: PluginSet, tmp_path: Path) -> Changed:
    """``changed(task, bias)``: of the task's model beside itself with another last bias."""

    def compare(task: Task, bias: list[float], again: int = 64) -> Any:
        opened = open_quickly(task, plugins, tmp_path / "run", only=())
        reference = opened.pipeline.prepared.reference
        model = onnx.load(opened.task.folder.root / reference.path)
        floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
        (held,) = [tensor for tensor in floats if tuple(tensor.dims) == (len(bias),)]
        held.CopyFrom(numpy_helper.from_array(torch.tensor(bias).numpy(), held.name))
        onnx.save(model, opened.task.folder.root / "other.onnx")
        file = ModelFile(Recipe(), "other.onnx", "0" * 64, "other")
        (scored,) = score_files(opened.task, [file])
        assert isinstance(scored, Scored)
        outputs = opened.opening.reference.outputs, scored.outputs
        return changed_examples(opened.task, file, *outputs, seconds=10.0, again=again)

    return compare


def images() -> Task:
    """Labelled by the model itself; the first ones are nearly equal on both sides."""
    inputs = torch.zeros(COUNT, 1, 8, 8)
    for number in range(COUNT):
        inputs[number, :, :, :4], inputs[number, :, :, 4:] = 0.5, 0.5 + 0.01 * (number + 1) * (-1) ** number
    targets = Squares()(inputs).argmax(1)
    data = inputs, targets
    return Task(name="t", model=Squares(), train=data, val=data, labels=["left", "right"])


def test_where_what_is_kept_is_of_several_examples_together_a_sample_of_them_is_scored(changed: Changed) -> None:
    inputs = torch.randn(2 * BLOCKS, 4, generator=torch.Generator().manual_seed(0))
    targets = inputs.sum(1)
    targets[100:110] += 5.0  # where another bias is nearer
    data = inputs, targets
    task = Task(name="t", model=Line(), train=data, val=data, loss="mse", metric=MeanSquaredError(), maximize=False)
    found = changed(task, [SHIFT], again=400)
    assert (found.examples, found.sampled_of) == (400, 2 * BLOCKS)
    assert found.worse + found.better == 400
    assert 0 < found.better <= 10
    assert {e.number for e in found.most}.isdisjoint(range(100, 110))
    assert max(e.number for e in found.most) > 400, "numbers are those of the whole split"
    assert changed(task, [SHIFT], again=10) is None, "so few tell nothing"


def test_flipped_answers_are_named_and_shown_the_most_changed_first(changed: Changed) -> None:
    task = images()
    found = changed(task, [0.0, -2.0])  # right has to be brighter by more than that
    flipped = [n for n in range(COUNT) if int(task.val[1][n]) == 1 and 32 * 0.01 * (n + 1) < 2.0]
    assert found.worse == len(flipped) > 0
    assert found.better == 0
    assert {example.number for example in found.most} <= set(flipped)
    assert {(e.target, e.reference, e.own) for e in found.most} == {("right", "right", "left")}
    assert all(example.picture for example in found.most)


def test_pictures_are_left_out_where_the_task_says_so(changed: Changed) -> None:
    found = changed(replace(images(), pictures=False), [0.0, -2.0])
    assert found.most
    assert not any(example.picture for example in found.most)


def test_numbers_without_an_axis_of_their_own_are_compared(changed: Changed) -> None:
    inputs = torch.arange(4.0 * COUNT).reshape(COUNT, 4) / COUNT
    data = inputs, inputs.sum(1)

    def error(outputs: Tensor, targets: Tensor) -> float:
        return float((outputs - targets).abs().mean())

    task = Task(name="t", model=Line(), train=data, val=data, loss="mse", metric=error, maximize=False)
    found = changed(task, [SHIFT], again=5)
    assert (found.worse, found.better) == (COUNT, 0)
    assert 0 < len(found.most) <= 5
    example = found.most[0]
    assert float(example.own) == pytest.approx(float(example.target) + SHIFT, abs=0.01)
    assert example.loss == pytest.approx(SHIFT, abs=1e-4)


def test_examples_of_a_part_have_their_numbers_in_the_whole() -> None:
    val = read_data(images(), Reading()).splits["val"]
    part = val.sampled(4).of(torch.tensor([1, 3]))
    assert [part.number(index) for index in range(2)] == [13, COUNT - 1]

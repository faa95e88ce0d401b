"""What the tests of the weight strategies share: a task's context, one training, and a model's file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.export import export
from autocompress.candidate.reading import read_task
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.teacher import Teacher
from autocompress.candidate.train import Schedule, train
from autocompress.plugin.contract import Context, Runtime, TrainHook
from autocompress.profile import HardwareProfile
from autocompress.task import Inputs, Task
from tests.layouts import layout_of

MakeContext = Callable[..., Context]


PROFILE = HardwareProfile(name="fake", runtime="fake")


@pytest.fixture
def make_context(fake_runtime: Runtime) -> MakeContext:
    """``make_context(model, inputs)``: 64 examples shaped like ``inputs`` (a tensor, tuple or dict of one example)."""

    def make(model: nn.Module, inputs: Inputs, loss: str = "cross_entropy") -> Context:
        generator = torch.Generator().manual_seed(0)

        def many(one: Tensor) -> Tensor:
            noise = torch.randn(64, *one.shape[1:], generator=generator)
            return noise if one.is_floating_point() else one.expand(64, *one.shape[1:]).clone()

        if isinstance(inputs, Tensor):
            x: Inputs = many(inputs)
        elif isinstance(inputs, dict):
            x = {name: many(one) for name, one in inputs.items()}
        else:
            x = tuple(many(one) for one in inputs)
        data = (x, torch.arange(64) % 4 if loss == "cross_entropy" else torch.randn(64, 1, generator=generator))
        metric = "accuracy" if loss == "cross_entropy" else lambda outputs, targets: -float((outputs - targets).norm())
        task = Task(name="made", model=model, train=data, val=data, loss=loss, metric=metric)
        return read_task(task, PROFILE, fake_runtime, Path("reference.onnx"), 0).context

    return make


@pytest.fixture
def tiny_context(tiny_task: Task, fake_runtime: Runtime) -> Context:
    return read_task(tiny_task, PROFILE, fake_runtime, Path("reference.onnx"), 0).context


@pytest.fixture
def trained(tiny_context: Context) -> Callable[..., nn.Module]:
    """``trained(model, hooks, examples, start=0)``: the tiny task's training with these hooks."""
    task = tiny_context.task
    stream = TrainStream(task, tiny_context.train, Teacher(task.copy_of_model(), Arithmetic(), tiny_context.layout), 0)

    def run(model: nn.Module, hooks: Sequence[TrainHook], examples: int, start: int = 0) -> nn.Module:
        named = [(type(hook).__name__, hook) for hook in hooks]
        return train(
            model, named, task.loss_fn, stream, Schedule(4e-3, 32, start=start, examples=examples), Arithmetic()
        ).model

    return run


@pytest.fixture
def to_file(tmp_path: Path) -> Callable[..., Path]:
    """``to_file(model, inputs)``: the model as an ONNX file."""
    written: list[Path] = []

    def write(model: nn.Module, inputs: Inputs) -> Path:
        written.append(tmp_path / f"model{len(written)}.onnx")
        export(model, layout_of(model, inputs), inputs, written[-1], "torchscript")
        return written[-1]

    return write

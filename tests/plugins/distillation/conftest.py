"""What the tests of the distillation strategies share: contexts, one training, and tasks of every form."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.reading import read_task
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.teacher import Teacher
from autocompress.candidate.train import Schedule, train
from autocompress.classes import accuracy
from autocompress.plugin.contract import Context, TrainHook, TrainStep
from autocompress.profile import HardwareProfile
from autocompress.task import Task
from autocompress.testing.tasks import Cnn, Lstm
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime

MakeContext = Callable[[Task], Context]
MakeExamples = Callable[[int, int], tuple[Tensor, Tensor]]


class ByName(nn.Module):
    """A dict of an image and a number -> (N, 4)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.image = nn.Conv2d(1, width, 3)
        self.mix = nn.Linear(width + 1, width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor, extra: Tensor) -> Tensor:
        pooled = torch.relu(self.image(x)).mean((2, 3))
        return self.head(torch.relu(self.mix(torch.cat([pooled, extra], 1))))


class Regressor(nn.Module):
    """(N, 6) -> (N, 1)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x))


def negative_error(outputs: Tensor, targets: Tensor) -> float:
    return -float((outputs - targets).square().mean())


def made(name: str, model: nn.Module, inputs: Any, targets: Tensor, **others: Any) -> Task:
    return Task(name=name, model=model, train=(inputs, targets), val=(inputs, targets), **others)


def every_form() -> dict[str, tuple[Task, nn.Module]]:
    """By name: a task with an untrained reference, and a student for it, narrower where that takes one line."""
    torch.manual_seed(0)
    x, extra, labels = torch.randn(64, 1, 8, 8), torch.randn(64, 1), torch.arange(64) % 4
    steps, flat, values = torch.randn(64, 12, 6), torch.randn(64, 6), torch.randn(64, 1)
    return {
        "images": (made("images", Cnn(), x, labels), Cnn()),
        "sequences": (made("sequences", Lstm(), steps, labels), Lstm()),
        "dict": (made("dict", ByName(), {"x": x, "extra": extra}, labels), ByName(4)),
        "tuple": (made("tuple", ByName(), (x, extra), labels), ByName(4)),
        "regression": (made("regression", Regressor(), flat, values, loss="mse", metric=negative_error), Regressor(4)),
    }


@pytest.fixture
def form(request: pytest.FixtureRequest) -> tuple[Task, nn.Module]:
    """The task of a form, and a student."""
    return every_form()[request.param]


@pytest.fixture(scope="session")
def make_context() -> MakeContext:
    """``make_context(task)``: what a strategy is given; the reference's file is not written."""
    profile = HardwareProfile(name="fake", runtime="fake")
    return lambda task: read_task(task, profile, OnnxRuntime(), Path("reference.onnx"), 0).context


@pytest.fixture(scope="module")
def tiny_context(trained_tiny: nn.Module, examples: MakeExamples, make_context: MakeContext) -> Context:
    """The tiny task, opened once a module: its reference is not to be changed."""
    return make_context(Task("tiny", copy.deepcopy(trained_tiny), examples(256, 1), examples(96, 2)))


@pytest.fixture(scope="session")
def trained() -> Callable[..., nn.Module]:
    """``trained(context, model, hooks, examples)``: the one training loop, with these hooks."""

    def run(
        context: Context,
        model: nn.Module,
        hooks: Sequence[TrainHook],
        examples: int,
        *,
        start: int = 0,
        batch_size: int = 32,
        arithmetic: Arithmetic = Arithmetic(),
    ) -> nn.Module:
        teacher = Teacher(context.task.copy_of_model(), arithmetic, context.layout)
        stream = TrainStream(context.task, context.train, teacher, 0)
        named = [(type(hook).__name__, hook) for hook in hooks]
        schedule = Schedule(4e-3, batch_size, start, examples)
        return train(model, named, context.task.loss_fn, stream, schedule, arithmetic).model

    return run


@pytest.fixture
def step_of() -> Callable[..., TrainStep]:
    """``step_of(progress, features, teacher_features)``: a step whose other parts do not matter."""

    def make(progress: float, features: dict[str, Tensor], teacher: dict[str, Tensor]) -> TrainStep:
        nothing = torch.zeros(2)
        return TrainStep(nothing, nothing, nothing, None, progress, features, teacher)

    return make


@pytest.fixture(scope="session")
def tiny_class(trained_tiny: nn.Module) -> type[nn.Module]:
    """``tiny_class(width)``: the tiny model's class."""
    return type(trained_tiny)


@pytest.fixture(scope="session")
def knowing(tiny_class: type[nn.Module], examples: MakeExamples) -> nn.Module:
    """A reference that learned from 2,048 examples: it knows what 96 do not tell."""
    x, y = examples(2048, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = tiny_class(16)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(150):
            at = torch.arange(step * 64, step * 64 + 64) % len(y)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[at]), y[at]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def wrong_labels(
    knowing: nn.Module, tiny_class: type[nn.Module], examples: MakeExamples, make_context: MakeContext, trained: Any
) -> Callable[..., float]:
    """``wrong_labels(hooks_of)``: accuracy on 1,000 new examples of a student of ``knowing``, trained from nothing on
    128 examples, the labels of half of them drawn by lot, with the hooks of ``hooks_of(context)``.
    """
    x, y = examples(1000, 9)
    inputs, labels = examples(128, 101)
    generator = torch.Generator().manual_seed(1)
    lost = torch.rand(128, generator=generator) < 0.5
    labels = torch.where(lost, torch.randint(4, (128,), generator=generator), labels)
    context = make_context(Task(name="wrong", model=knowing, train=(inputs, labels), val=examples(64, 2)))

    def score(hooks_of: Callable[[Context], list[TrainHook]]) -> float:
        torch.manual_seed(1)
        student = trained(context, tiny_class(16), hooks_of(context), 3072)
        with torch.no_grad():
            return accuracy(student(x), y)

    return score


@pytest.fixture(scope="session")
def labels_alone(wrong_labels: Callable[..., float]) -> float:
    """What ``wrong_labels`` gives without a teacher."""
    return wrong_labels(lambda context: [])

"""What the tests of the techniques share: contexts, the trained example tasks opened, and a model's file run.

The example tasks are opened once a module, so that what is measured and checked of them is shared as in a search. No
test changes a context's own model.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.export import export
from autocompress.candidate.reading import read_task
from autocompress.data import feed_of
from autocompress.plugin.contract import Context
from autocompress.profile import HardwareProfile
from autocompress.task import Inputs, Task
from autocompress.testing import tasks
from autocompress_plugins.model_runs import output
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime
from tests.layouts import layout_of

DECAY_STEPS = {"cnn": 60, "lstm": 20, "transformer": 20}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Networks are made with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def opened(task: Task) -> Context:
    """The reference's file is not written."""
    profile = HardwareProfile(name="fake", runtime="fake")
    return read_task(task, profile, OnnxRuntime(), Path("reference.onnx"), 0).context


@pytest.fixture(scope="session")
def open_task() -> Callable[[Task], Context]:
    return opened


@pytest.fixture(scope="session")
def make_context() -> Callable[..., Context]:
    """``make_context(model, x)``: a regression onto noise with the examples ``x``."""

    def make(model: nn.Module, x: Inputs) -> Context:
        y = torch.randn_like(output(model, x))
        return opened(
            Task("made", model, (x, y), (x, y), loss="mse", metric=lambda a, b: -float((a - b).square().mean()))
        )

    return make


@pytest.fixture(scope="session")
def teaching_itself() -> Callable[[nn.Module, Inputs], Context]:
    """A task whose targets are the model's own outputs: a block does the harm that it changes them by."""

    def make(model: nn.Module, inputs: Inputs) -> Context:
        data = (inputs, output(model, inputs))
        return opened(Task("made", model, data, data, loss="mse", metric=lambda one, other: 0.0))

    return make


@pytest.fixture(scope="module")
def cnn() -> Context:
    return opened(tasks.cnn())


@pytest.fixture(scope="module")
def lstm() -> Context:
    return opened(tasks.lstm())


@pytest.fixture(scope="module")
def transformer() -> Context:
    return opened(tasks.transformer())


@pytest.fixture(scope="module")
def decayed() -> Callable[[Callable[[], Task]], Context]:
    """``decayed(tasks.cnn)``: trained on with so much weight decay that only what is needed stays large."""
    known: dict[str, Context] = {}

    def train(make: Callable[[], Task]) -> Context:
        task = make()
        if task.name not in known:
            model, (x, y) = copy.deepcopy(task.model).train(), task.train
            optimizer = torch.optim.AdamW(model.parameters(), 5e-3, weight_decay=1.0)
            for step in range(DECAY_STEPS[task.name]):
                at = torch.arange(step * 64, step * 64 + 64) % len(y)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[at]), y[at]).backward()
                optimizer.step()
            known[task.name] = opened(replace(task, model=model.eval()))
        return known[task.name]

    return train


@pytest.fixture
def from_file(tmp_path: Path) -> Callable[[nn.Module, Inputs], Tensor]:
    """``from_file(model, inputs)``: what the exported model gives."""

    def run(model: nn.Module, inputs: Inputs) -> Tensor:
        export(model, layout_of(model, inputs), inputs, tmp_path / "model.onnx", "torchscript")
        session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        return torch.from_numpy(np.asarray(session.run(None, feed_of(inputs))[0]))

    return run

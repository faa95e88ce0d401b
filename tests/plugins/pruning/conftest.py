"""What the tests of structured pruning share: contexts, the trained example tasks opened, and a model's file run."""

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
from autocompress.data import call, feed_of, input_names, primary
from autocompress.plugin.contract import Context
from autocompress.profile import HardwareProfile
from autocompress.task import Inputs, Task
from autocompress.testing import tasks
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Networks are made with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def open_task(tmp_path: Path, fake_profile: HardwareProfile) -> Callable[[Task], Context]:
    return lambda task: read_task(task, fake_profile, OnnxRuntime(), tmp_path / "reference.onnx", 0).context


@pytest.fixture
def make_context(open_task: Callable[[Task], Context]) -> Callable[..., Context]:
    """``make_context(model, x)``: a regression onto noise with the examples ``x``."""

    def make(model: nn.Module, x: Inputs) -> Context:
        with torch.no_grad():
            y = torch.randn_like(primary(call(model.eval(), x)))
        return open_task(
            Task("made", model, (x, y), (x, y), loss="mse", metric=lambda a, b: -float((a - b).square().mean()))
        )

    return make


@pytest.fixture
def cnn(open_task: Callable[[Task], Context]) -> Context:
    return open_task(tasks.cnn())


@pytest.fixture
def lstm(open_task: Callable[[Task], Context]) -> Context:
    return open_task(tasks.lstm())


@pytest.fixture
def transformer(open_task: Callable[[Task], Context]) -> Context:
    return open_task(tasks.transformer())


@pytest.fixture
def decayed() -> Callable[[Task], Task]:
    """``decayed(task)``: trained on with so much weight decay that only what is needed stays large."""

    def train(task: Task) -> Task:
        model, (x, y) = copy.deepcopy(task.model).train(), task.train
        optimizer = torch.optim.AdamW(model.parameters(), 5e-3, weight_decay=1.0)
        for step in range(60):
            at = torch.arange(step * 64, step * 64 + 64) % len(y)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[at]), y[at]).backward()
            optimizer.step()
        return replace(task, model=model.eval())

    return train


@pytest.fixture
def from_file(tmp_path: Path) -> Callable[[nn.Module, Inputs], Tensor]:
    """``from_file(model, inputs)``: what the exported model gives."""

    def run(model: nn.Module, inputs: Inputs) -> Tensor:
        export(model, inputs, tmp_path / "model.onnx", "torchscript")
        session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        return torch.from_numpy(np.asarray(session.run(None, feed_of(inputs, input_names(inputs)))[0]))

    return run

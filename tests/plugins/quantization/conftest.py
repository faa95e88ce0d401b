"""What the tests of the graph strategies share: the context of an exported model, and running a file."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.export import export_with
from autocompress.plugin.contract import Array, Context, Runtime
from autocompress.profile import HardwareProfile
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime
from tests.layouts import layout_of

MakeContext = Callable[..., Context]
Outputs = Callable[[Path, Tensor], Array]


class Declared(OnnxRuntime):
    """Of a processor that is said to saturate or not, whatever this one does."""

    def __init__(self, saturating: bool) -> None:
        self.saturating = saturating

    def saturates(self, profile: HardwareProfile) -> bool:
        return self.saturating


@pytest.fixture(scope="session")
def declared() -> Callable[[bool], Runtime]:
    """``declared(True)``: the runtime, on a processor where sums of int8 products saturate."""
    return Declared


@pytest.fixture
def graph_context(tmp_path: Path) -> MakeContext:
    """``graph_context(model, inputs)``: the model exported for one example; ``inputs`` are the training examples.
    Further arguments: ``exporter``, and fields of the profile.
    """

    def make(model: nn.Module, inputs: Tensor, exporter: str = "torchscript", **profile: object) -> Context:
        reference = tmp_path / "reference.onnx"
        layout = layout_of(model, inputs[:1])
        export_with(exporter, model.eval(), layout, inputs[:1], reference)
        unused: dict[str, object] = {"task": SimpleNamespace(keep=()), "train": None}
        return Context(
            **unused,  # type: ignore[arg-type]
            profile=HardwareProfile(name="test", **profile),  # type: ignore[arg-type]
            runtime=OnnxRuntime(),
            model=model,
            example_inputs=inputs[:2],
            layout=layout,
            reference=reference,
            seed=0,
            feeds=lambda count: ({"input": x[None].numpy()} for x in inputs[:count]),
        )

    return make


@pytest.fixture(scope="session")
def outputs() -> Outputs:
    """``outputs(path, inputs)``: of a file, one example at a time."""

    def run(path: Path, inputs: Tensor) -> Array:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return np.concatenate([session.run(None, {name: x[None].numpy()})[0] for x in inputs])

    return run


@pytest.fixture(scope="session")
def distance() -> Callable[[Array, Array], float]:
    """``distance(got, expected)``: norm of the difference over the norm of what was expected."""

    def measured(got: Array, expected: Array) -> float:
        return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))

    return measured


class Recurrent(nn.Module):
    """Two bidirectional layers, and a linear layer when there are classes: (N, T, 8) -> (N, T, 32) or (N, classes)."""

    def __init__(self, kind: type[nn.Module], classes: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = kind(8, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, classes) if classes else None

    def forward(self, x: Tensor) -> Tensor:
        states = self.rnn(x)[0]
        return states if self.head is None else self.head(states.mean(1))


@pytest.fixture(scope="session")
def recurrent() -> type[Recurrent]:
    return Recurrent


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """``noise(64, 9, 8)``: normal numbers, the same each time."""
    return lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(1))

"""Half precision: float16 inside, float32 outside, half the size, the same answers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from autocompress.plugin.contract import Context
from autocompress.profile import HardwareProfile
from autocompress.task import Task
from autocompress.testing import tasks
from autocompress_plugins.quantization.float16 import Float16
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime

MakeContext = Callable[..., Context]


def rewritten(context: Context) -> Path:
    strategy, target = Float16(), context.reference.with_name("half.onnx")
    assert strategy.refuses(context) is None
    (params,) = strategy.variants(context)
    strategy.apply(context.reference, target, params, context)
    return target


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("make", tasks.ALL, ids=lambda make: make.__name__)
def test_file_computes_the_same_in_half_the_precision(
    make: Callable[[], Task], exporter: str, graph_context: MakeContext, outputs: Any, distance: Callable[..., float]
) -> None:
    task = make()
    inputs = task.train[0][:32]
    context = graph_context(task.model, inputs, exporter)
    target = rewritten(context)
    assert 0 < distance(outputs(target, inputs), outputs(context.reference, inputs)) < 2e-3
    onnx.checker.check_model(str(target))


def test_weights_take_half_the_room_and_a_caller_sees_no_difference(
    graph_context: MakeContext, noise: Callable[..., Tensor]
) -> None:
    context = graph_context(nn.Sequential(nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 50)), noise(4, 100))
    target = rewritten(context)
    before, after = onnx.load(str(context.reference)).graph, onnx.load(str(target)).graph
    assert {tensor.data_type for tensor in after.initializer} == {TensorProto.FLOAT16}
    assert target.stat().st_size < 0.55 * context.reference.stat().st_size
    for one, other in zip((*before.input, *before.output), (*after.input, *after.output), strict=True):
        assert one.SerializeToString() == other.SerializeToString()


def test_constants_beyond_float16_stay_finite(graph_context: MakeContext, outputs: Any) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.triu(torch.full((6, 6), torch.finfo(torch.float32).min), 1)
            return torch.softmax(self.head(x) + mask, -1)

    inputs = torch.linspace(-1, 1, 36).reshape(1, 6, 6)
    context = graph_context(Masked(), inputs)
    got = outputs(rewritten(context), inputs)
    assert np.allclose(got, outputs(context.reference, inputs), atol=2e-3)


class Faster(OnnxRuntime):
    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        return frozenset({"float16"})


def test_it_only_makes_files_smaller_where_the_runtime_is_no_faster_with_it(
    graph_context: MakeContext, tiny_model: nn.Module
) -> None:
    inputs = torch.zeros(2, 1, 8, 8)
    on_processor = graph_context(tiny_model, inputs)
    reason = Float16().size_only(on_processor)
    assert reason is not None
    assert "onnxruntime is no faster in float16" in reason
    assert Float16().size_only(replace(on_processor, runtime=Faster())) is None


def test_model_without_weights_is_refused(graph_context: MakeContext) -> None:
    reason = Float16().refuses(graph_context(nn.ReLU(), torch.zeros(2, 3)))
    assert reason is not None
    assert "weights" in reason

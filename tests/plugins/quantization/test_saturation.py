"""Whatever the processor, int8 files compute what their weights stand for: where sums saturate, with weights of seven
bits or unsigned ones.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from autocompress.candidate.count import count
from autocompress.plugin.contract import Array, Context, GraphStrategy, Runtime
from autocompress_plugins.quantization.quantize_aware import QuantizeAware
from autocompress_plugins.quantization.quantize_dynamic import QuantizeDynamic
from autocompress_plugins.quantization.quantize_static import QuantizeStatic
from autocompress_plugins.quantization.quantize_weights import QuantizeWeights
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime

MakeContext = Callable[..., Context]
INPUTS = torch.ones(4, 16, 6, 6)


def equal(layer: nn.Module) -> nn.Module:
    """With weights of which none is larger than another."""
    for weight in layer.parameters():
        nn.init.ones_(weight)
    return layer


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), equal(nn.Linear(16 * 36, 8, bias=False)))


def convolution() -> nn.Module:
    return equal(nn.Conv2d(16, 8, 3, bias=False))


def rewritten(strategy: GraphStrategy, context: Context) -> list[Path]:
    """A file for each variant."""
    paths = []
    for number, params in enumerate(strategy.variants(context)):
        paths.append(context.reference.with_name(f"{strategy.name}-{number}.onnx"))
        strategy.apply(context.reference, paths[-1], params, context)
    assert paths
    return paths


CASES = [
    (QuantizeStatic(), linear),
    (QuantizeStatic(), convolution),
    (QuantizeAware(), linear),
    (QuantizeAware(), convolution),
    (QuantizeDynamic(), linear),
    (QuantizeWeights(), linear),
]


@pytest.mark.parametrize(("strategy", "model"), CASES)
def test_no_sum_of_products_is_cut_off(
    strategy: GraphStrategy, model: Callable[[], nn.Module], graph_context: MakeContext, outputs: Any
) -> None:
    context = graph_context(model(), INPUTS)
    expected = outputs(context.reference, INPUTS)
    for path in rewritten(strategy, context):
        assert outputs(path, INPUTS) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("strategy", "model"), CASES[:-1])
def test_neither_kind_of_weights_for_processors_that_saturate_is_cut_off_on_any(
    strategy: GraphStrategy,
    model: Callable[[], nn.Module],
    graph_context: MakeContext,
    outputs: Any,
    declared: Callable[[bool], Runtime],
) -> None:
    context = replace(graph_context(model(), INPUTS), runtime=declared(True))
    expected = outputs(context.reference, INPUTS)
    paths = rewritten(strategy, context)
    assert len(paths) >= 2
    for path in paths:
        assert outputs(path, INPUTS) == pytest.approx(expected, rel=0.02)


def weights(path: Path) -> list[Array]:
    """The 8-bit constants of two axes and more."""
    tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer]
    return [tensor for tensor in tensors if tensor.dtype in (np.int8, np.uint8) and tensor.ndim > 1]


STRATEGIES = [QuantizeStatic(), QuantizeAware(), QuantizeDynamic()]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_weights_are_of_seven_bits_or_unsigned_where_sums_saturate(
    strategy: GraphStrategy,
    graph_context: MakeContext,
    recurrent: type[nn.Module],
    noise: Callable[..., Tensor],
    declared: Callable[[bool], Runtime],
) -> None:
    context = graph_context(recurrent(nn.LSTM, classes=5), noise(8, 9, 8))

    def kinds(saturates: bool) -> set[tuple[str, int]]:
        """The type of weights, and the largest distance from their zero point."""
        found = set()
        for path in rewritten(strategy, replace(context, runtime=declared(saturates))):
            tensors = [tensor.astype(int) - (128 if tensor.dtype == np.uint8 else 0) for tensor in weights(path)]
            (kind,) = {tensor.dtype.name for tensor in weights(path) if tensor.size > 2 * tensor.shape[-1]}
            found.add((kind, max(int(np.abs(tensor).max()) for tensor in tensors)))
        return found

    assert kinds(saturates=False) == {("int8", 127)}
    assert kinds(saturates=True) == {("int8", 64), ("uint8", 127)}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_unsigned_weights_stand_for_the_same_numbers_as_signed_ones(
    strategy: GraphStrategy, graph_context: MakeContext, recurrent: type[nn.Module], noise: Callable[..., Tensor]
) -> None:
    inputs = noise(8, 9, 8)
    context = graph_context(recurrent(nn.LSTM, classes=5), inputs)
    params = {"activations": "QUInt8", "calibration": "minmax", "weights": "QInt8"}
    found, counts = [], []
    for kind in ("QInt8", "QUInt8"):
        path = context.reference.with_name(f"{kind}.onnx")
        strategy.apply(context.reference, path, {**params, "weights": kind}, context)
        counts.append(count(path))
        session = OnnxRuntime().exact(path, context.profile)
        assert session is not None
        found.append(np.concatenate([session.run(feed)[0] for feed in context.feeds(8)]))
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert counts[0] == counts[1], "parameters and operations"
    assert np.abs(found[0]).max() > 0.1


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_unsigned_weights_have_integer_kernels(
    exporter: str, tiny_model: nn.Module, graph_context: MakeContext, noise: Callable[..., Tensor], tmp_path: Path
) -> None:
    context = graph_context(tiny_model, noise(8, 1, 8, 8), exporter)
    params = {"activations": "QUInt8", "calibration": "minmax", "weights": "QUInt8"}
    path, optimized = tmp_path / "u8u8.onnx", tmp_path / "optimized.onnx"
    QuantizeStatic().apply(context.reference, path, params, context)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(optimized)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(str(optimized)).graph.node]
    assert operators.count("QLinearConv") == 2
    assert operators.count("QGemm") == 1


@pytest.mark.parametrize(
    ("strategy", "model"), [(QuantizeStatic(), convolution), (QuantizeDynamic(), linear), (QuantizeDynamic(), None)]
)
def test_the_exact_outputs_of_a_file_are_those_of_its_numbers_on_any_processor(
    strategy: GraphStrategy,
    model: Callable[[], nn.Module] | None,
    graph_context: MakeContext,
    recurrent: type[nn.Module],
    outputs: Any,
) -> None:
    inputs = INPUTS if model else torch.ones(4, 9, 8)
    context = graph_context(model() if model else recurrent(nn.LSTM, classes=5), inputs)
    path = context.reference.with_name("eight_bits.onnx")
    params = {"activations": "QUInt8", "calibration": "minmax", "weights": "QInt8"}
    strategy.apply(context.reference, path, params, context)
    session = OnnxRuntime().exact(path, context.profile)
    assert session is not None
    found = np.concatenate([session.run(feed)[0] for feed in context.feeds(4)])
    assert found == pytest.approx(outputs(context.reference, inputs), rel=0.02, abs=2e-3)

"""Dynamic int8: LSTMs and matrix products get integer operators by either exporter; GRUs have none."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto
from torch import Tensor, nn

from autocompress.plugin.contract import Array, Context
from autocompress_plugins.quantization.quantize_dynamic import QuantizeDynamic

MakeContext = Callable[..., Context]


def rewritten(context: Context) -> Path:
    strategy, target = QuantizeDynamic(), context.reference.with_name("dynamic.onnx")
    assert strategy.refuses(context) is None
    params = strategy.variants(context)[0]
    strategy.apply(context.reference, target, params, context)
    return target


def operators(path: Path) -> Sequence[str]:
    return [node.op_type for node in onnx.load(str(path)).graph.node]


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_both_layers_and_directions_of_an_lstm_become_the_int8_operator(
    exporter: str,
    graph_context: MakeContext,
    recurrent: type[nn.Module],
    noise: Callable[..., Tensor],
    outputs: Any,
    distance: Callable[[Array, Array], float],
) -> None:
    inputs = noise(16, 9, 8)
    context = graph_context(recurrent(nn.LSTM), inputs, exporter)
    target = rewritten(context)
    assert operators(target).count("DynamicQuantizeLSTM") == 2
    assert "LSTM" not in operators(target)
    graph = onnx.load(str(target)).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "DynamicQuantizeLSTM"]
    assert {types[name] for node in layers for name in node.input[1:3]} == {TensorProto.INT8}
    assert {shapes[node.input[1]][0] for node in layers} == {2}, "both directions"
    assert {shapes[node.input[1]][1] for node in layers} == {8, 32}, "the second layer reads both"
    assert 0 < distance(outputs(target, inputs), outputs(context.reference, inputs)) < 0.02


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_nothing_but_a_gru_is_refused_by_name(
    exporter: str, graph_context: MakeContext, recurrent: type[nn.Module], noise: Callable[..., Tensor]
) -> None:
    context = graph_context(recurrent(nn.GRU), noise(2, 9, 8), exporter)
    before = context.reference.read_bytes()
    reason = QuantizeDynamic().refuses(context)
    assert reason is not None
    assert "no int8 kernel" in reason
    layers = [node.name for node in onnx.load(str(context.reference)).graph.node if "GRU" in node.op_type]
    assert layers
    assert all(f"{name} (GRU)" in reason for name in layers)
    assert context.reference.read_bytes() == before


def test_product_after_a_gru_is_quantized_and_the_gru_is_not(
    graph_context: MakeContext,
    recurrent: type[nn.Module],
    noise: Callable[..., Tensor],
    outputs: Any,
    distance: Callable[[Array, Array], float],
) -> None:
    inputs = noise(16, 9, 8)
    context = graph_context(recurrent(nn.GRU, classes=5), inputs)
    target = rewritten(context)
    assert operators(target).count("GRU") == 2
    assert operators(target).count("MatMulInteger") == 1
    assert 0 < distance(outputs(target, inputs), outputs(context.reference, inputs)) < 0.02


def test_convolutions_stay_in_float(
    graph_context: MakeContext, tiny_model: nn.Module, noise: Callable[..., Tensor]
) -> None:
    target = rewritten(graph_context(tiny_model, noise(2, 1, 8, 8)))
    assert operators(target).count("Conv") == 2
    assert operators(target).count("MatMulInteger") == 1


def test_model_with_neither_is_refused_without_naming_a_gru(
    graph_context: MakeContext, noise: Callable[..., Tensor]
) -> None:
    reason = QuantizeDynamic().refuses(graph_context(nn.Conv2d(1, 4, 3), noise(2, 1, 8, 8)))
    assert reason is not None
    assert "GRU" not in reason

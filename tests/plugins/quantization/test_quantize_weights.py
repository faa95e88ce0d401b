"""Weights in 8 or 4 bits: every kind of layer, smaller files, and integers that stand for the weights they replace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from autocompress.plugin.contract import Array, Context
from autocompress_plugins.quantization.quantize_weights import QuantizeWeights

MakeContext = Callable[..., Context]
ERRORS = {8: 0.02, 4: 0.2}  # of untrained layers, whose weights are as hard to round as any


def rewritten(context: Context, bits: int) -> Path:
    target = context.reference.with_name(f"weights{bits}.onnx")
    assert QuantizeWeights().refuses(context) is None
    QuantizeWeights().apply(context.reference, target, {"bits": bits}, context)
    onnx.checker.check_model(str(target))
    return target


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def unpacked(path: Path) -> list[tuple[Array, Array]]:
    """Of every packed product: the matrix its integers stand for, (K, N), and the scale of each element."""
    graph, found = onnx.load(str(path)).graph, []
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            sizes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            levels, scales = values[node.input[1]].astype(np.int64), values[node.input[2]]
            if sizes["bits"] == 4:
                levels = np.stack([levels & 15, levels >> 4], -1).reshape(*levels.shape[:2], -1)
            weights = (levels - 2 ** (sizes["bits"] - 1)) * scales[:, :, None]
            spread = np.broadcast_to(np.abs(scales)[:, :, None], weights.shape)
            found.append(tuple(a.reshape(len(a), -1)[:, : sizes["K"]].T for a in (weights, spread)))
    return found


@pytest.fixture
def recurrences(recurrent: type[nn.Module]) -> dict[str, tuple[nn.Module, tuple[int, ...], str]]:
    return {
        "lstm": (recurrent(nn.LSTM, classes=4), (9, 8), "LSTM"),
        "gru": (recurrent(nn.GRU), (9, 8), "GRU"),
        "rnn": (recurrent(nn.RNN), (9, 8), "RNN"),
    }


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("bits", [8, 4])
def test_matrix_products_are_packed(
    bits: int,
    exporter: str,
    graph_context: MakeContext,
    noise: Callable[..., Tensor],
    outputs: Any,
    distance: Callable[..., float],
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 100, bias=False))
    inputs = noise(16, 200)
    context = graph_context(model, inputs, exporter)
    target = rewritten(context, bits)
    assert operators(target) == ["MatMulNBits", "Relu", "MatMulNBits"]
    assert distance(outputs(target, inputs), outputs(context.reference, inputs)) < ERRORS[bits]
    assert target.stat().st_size < {8: 0.36, 4: 0.22}[bits] * context.reference.stat().st_size


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("inner", [1, 5, 16, 33, 128, 130])
def test_integers_stand_for_the_weights_whatever_the_size(
    inner: int, bits: int, graph_context: MakeContext, noise: Callable[..., Tensor], outputs: Any
) -> None:
    layer = nn.Linear(inner, 7)
    with torch.no_grad():
        layer.weight[3] = 0
    inputs = noise(8, inner)
    context = graph_context(layer, inputs)
    target = rewritten(context, bits)
    ((weights, scales),) = unpacked(target)
    own = layer.weight.detach().numpy().T
    assert (np.abs(weights - own) <= 1.001 * scales).all(), "the level opposite to a block's largest weight is missing"
    used = np.abs(own).max(0) > 0
    assert (scales <= 1.001 * np.abs(own).max(0) / 2 ** (bits - 1))[:, used].all()
    assert not weights[:, ~used].any()
    expected = inputs.numpy() @ weights + layer.bias.detach().numpy()
    assert outputs(target, inputs) == pytest.approx(expected, abs=0.02 * np.abs(expected).max())


def test_products_of_sequences_keep_their_shape(
    graph_context: MakeContext, noise: Callable[..., Tensor], outputs: Any, distance: Callable[..., float]
) -> None:
    inputs = noise(4, 6, 20)
    context = graph_context(nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 9)), inputs)
    target = rewritten(context, 8)
    assert operators(target).count("MatMulNBits") == 2
    assert outputs(target, inputs).shape == (4, 6, 9)
    assert distance(outputs(target, inputs), outputs(context.reference, inputs)) < ERRORS[8]


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_recurrent_layers_read_int8_weights(
    kind: str,
    recurrences: dict[str, Any],
    graph_context: MakeContext,
    noise: Callable[..., Tensor],
    outputs: Any,
    distance: Callable[..., float],
) -> None:
    model, shape, operator = recurrences[kind]
    inputs = noise(16, *shape)
    context = graph_context(model, inputs)
    target = rewritten(context, 8)
    assert operators(target).count(operator) == 2
    assert operators(target).count("DequantizeLinear") == 4
    assert distance(outputs(target, inputs), outputs(context.reference, inputs)) < ERRORS[8]
    assert target.stat().st_size < 0.55 * context.reference.stat().st_size


def test_convolutions_and_embeddings_read_int8_weights(
    graph_context: MakeContext, outputs: Any, distance: Callable[..., float]
) -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embedding = nn.Embedding(100, 16)
            self.up = nn.ConvTranspose1d(16, 12, 3, groups=2)
            self.down = nn.Conv1d(12, 8, 3, groups=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(torch.relu(self.up(self.embedding(x).transpose(1, 2))))

    inputs = torch.arange(60).reshape(5, 12)
    context = graph_context(Reader(), inputs)
    target = rewritten(context, 4)
    graph = onnx.load(str(target)).graph
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    scales = [sizes[node.input[1]] for node in graph.node if node.op_type == "DequantizeLinear"]
    assert sorted(scales) == [[6], [8], [100]], "for each output channel and each word"
    assert all(len(dims) == 1 for dims in sizes.values()), "no matrix is stored in float"
    assert distance(outputs(target, inputs), outputs(context.reference, inputs)) < ERRORS[8]


def test_weights_that_two_products_share_are_stored_once(
    graph_context: MakeContext, noise: Callable[..., Tensor]
) -> None:
    layer = nn.Linear(64, 64)
    context = graph_context(nn.Sequential(layer, nn.ReLU(), layer), noise(2, 64))
    target = rewritten(context, 8)
    assert operators(target).count("MatMulNBits") == 2
    assert sum(tensor.name.endswith("_levels") for tensor in onnx.load(str(target)).graph.initializer) == 1


def test_product_that_does_more_is_left_alone(tmp_path: Path, graph_context: MakeContext) -> None:
    inputs = torch.ones(2, 40)
    context = graph_context(nn.Linear(40, 30), inputs)
    for changed in ({"alpha": 0.5}, {"beta": 2.0}):
        model = onnx.load(str(context.reference))
        (node,) = model.graph.node
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute} | changed
        model.graph.node[0].CopyFrom(helper.make_node("Gemm", node.input, node.output, **attributes))
        onnx.save(model, str(tmp_path / "more.onnx"))
        QuantizeWeights().apply(tmp_path / "more.onnx", tmp_path / "same.onnx", {"bits": 8}, context)
        assert operators(tmp_path / "same.onnx") == ["Gemm"]


def test_source_is_only_read_and_a_model_without_weights_is_refused(
    graph_context: MakeContext, noise: Callable[..., Tensor]
) -> None:
    context = graph_context(nn.Linear(20, 10), noise(2, 20))
    before = context.reference.read_bytes()
    rewritten(context, 8)
    assert context.reference.read_bytes() == before
    reason = QuantizeWeights().refuses(graph_context(nn.ReLU(), noise(2, 20)))
    assert reason is not None
    assert "constant weights" in reason


@pytest.mark.parametrize(
    ("precisions", "bits"), [(("float32", "int8", "int4"), [8, 4]), (("float32", "int8"), [8]), (("float32",), [])]
)
def test_profile_decides_on_the_bits(
    precisions: tuple[str, ...], bits: list[int], graph_context: MakeContext, noise: Callable[..., Tensor]
) -> None:
    context = graph_context(nn.Linear(20, 10), noise(2, 20), precisions=precisions)
    assert [params["bits"] for params in QuantizeWeights().variants(context)] == bits
    reason = QuantizeWeights().refuses(context)
    assert reason is None if bits else reason is not None and "int4" in reason


def test_it_may_save_time_only_where_a_product_has_a_single_row(
    graph_context: MakeContext, tiny_model: nn.Module, noise: Callable[..., Tensor]
) -> None:
    def reason(model: nn.Module, inputs: Tensor) -> str | None:
        return QuantizeWeights().size_only(graph_context(model, inputs))

    model = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 3))
    assert reason(model, noise(2, 20)) is None
    for others in (reason(model, noise(2, 7, 20)), reason(tiny_model, noise(2, 1, 8, 8))):
        assert others is not None
        assert "single row" in others

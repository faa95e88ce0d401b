"""Parameters and multiply-accumulates of ONNX files, against arithmetic, and the same before and after quantization."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from autocompress.candidate.count import count
from autocompress.candidate.export import export_with
from autocompress.plugin.loader import PluginSet
from tests.layouts import layout_of

Exported = Callable[..., Path]


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    def exported(model: nn.Module, *shape: int, exporter: str = "torchscript") -> Path:
        target = tmp_path / f"{exporter}.onnx"
        inputs = torch.randn(*shape)
        export_with(exporter, model.eval(), layout_of(model, inputs), inputs, target)
        return target

    return exported


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one: ONNX Runtime's tools leave files where they are run."""
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


class First(nn.Module):
    """A recurrent layer without its states."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_small_network_is_counted_by_either_exporter(exporter: str, exported: Exported, tiny_model: nn.Module):
    convolutions = 64 * 8 * 9 + 16 * 16 * 8 * 9
    weights = 8 * 9 + 8 + 16 * 8 * 9 + 16 + 16 * 4 + 4  # batch norm is folded: a bias is left of it
    assert count(exported(tiny_model, 1, 1, 8, 8, exporter=exporter)) == (weights, convolutions + 16 * 4)


def test_multiply_accumulates_grow_with_the_batch_and_parameters_do_not(exported: Exported, tiny_model: nn.Module):
    params, macs = count(exported(tiny_model, 1, 1, 8, 8))
    assert count(exported(tiny_model, 32, 1, 8, 8)) == (params, 32 * macs)


@pytest.mark.parametrize(
    ("layer", "shape", "params", "macs"),
    [
        (nn.Conv2d(3, 8, 3, bias=False), (1, 3, 10, 10), 3 * 8 * 9, 8 * 8 * 8 * 3 * 9),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (2, 8, 6, 6), 8 * 9 + 8, 2 * 8 * 36 * 9),
        (nn.Conv2d(8, 4, 1, stride=2, groups=2), (1, 8, 6, 6), 4 * 4 + 4, 4 * 9 * 4),
        (nn.Conv1d(4, 6, 5), (1, 4, 20), 4 * 6 * 5 + 6, 6 * 16 * 4 * 5),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (1, 4, 5, 5), 4 * 6 * 4 + 6, 4 * 25 * 6 * 4),
        (nn.Linear(10, 7), (3, 10), 77, 3 * 70),
        (nn.Linear(10, 7), (2, 5, 10), 77, 2 * 5 * 70),
        (nn.ReLU(), (1, 5), 0, 0),
    ],
    ids=["conv", "depthwise", "grouped, strided", "conv1d", "transposed", "linear", "linear on a sequence", "nothing"],
)
def test_layers_against_arithmetic(layer: nn.Module, shape: Sequence[int], params: int, macs: int, exported: Exported):
    assert count(exported(layer, *shape)) == (params, macs)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers_against_arithmetic(kind: type[nn.Module], gates: int, directions: int, exported: Exported):
    layer = First(kind(5, 6, batch_first=True, bidirectional=directions == 2))
    weights = directions * gates * (6 * 5 + 6 * 6)
    biases = directions * gates * 2 * 6
    params, macs = count(exported(layer, 3, 7, 5))
    assert macs == 7 * 3 * weights
    assert weights + biases <= params <= weights + biases + 2 * directions * 3 * 6  # and initial states, if stored


def test_second_layer_reads_both_directions_of_the_first(exported: Exported):
    layer = First(nn.LSTM(5, 6, num_layers=2, batch_first=True, bidirectional=True))
    assert count(exported(layer, 1, 7, 5))[1] == 7 * (2 * 4 * (6 * 5 + 6 * 6) + 2 * 4 * (6 * 12 + 6 * 6))


def test_products_between_activations_count(exported: Exported):
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(x @ x.transpose(1, 2), -1) @ x

    assert count(exported(Attention(), 1, 6, 4)) == (0, 2 * 6 * 6 * 4)


def test_transposed_product_reads_its_inner_size_from_the_right_side(tmp_path: Path):
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["a", "b"], ["y"], transA=1)],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [5, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2])],
        [onnx.numpy_helper.from_array(np.ones((5, 2), np.float32), "b")],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "gemm.onnx"))
    assert count(tmp_path / "gemm.onnx") == (10, 3 * 5 * 2)


# -- quantized files ---------------------------------------------------------------------------------------------------


def quantized(plugins: PluginSet, name: str, source: Path, feeds: list[dict[str, Any]], params: dict[str, Any]) -> Path:
    target = source.with_name("quantized.onnx")
    context: Any = SimpleNamespace(feeds=lambda examples: iter(feeds), task=SimpleNamespace(keep=()))
    plugins.strategies[name].apply(source, target, params, context)
    return target


def test_static_int8_counts_as_its_float_file(exported: Exported, tiny_model: nn.Module, plugins: PluginSet):
    source = exported(tiny_model, 1, 1, 8, 8)
    feeds = [{"input": np.random.default_rng(n).standard_normal((1, 1, 8, 8), dtype=np.float32)} for n in range(4)]
    for activations in ("QUInt8", "QInt8"):
        target = quantized(
            plugins, "quantize_static", source, feeds, {"activations": activations, "calibration": "minmax"}
        )
        assert "QuantizeLinear" in {n.op_type for n in onnx.load(str(target)).graph.node}
        assert count(target) == count(source)


def test_dynamic_int8_linear_layers_count_as_their_float_file(exported: Exported, plugins: PluginSet):
    source = exported(nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 4)), 2, 10)
    target = quantized(plugins, "quantize_dynamic", source, [], {"weights": "QInt8"})
    assert "MatMulInteger" in {n.op_type for n in onnx.load(str(target)).graph.node}
    assert count(target) == count(source)


@pytest.mark.parametrize("directions", [1, 2])
def test_dynamic_int8_lstm_counts_as_its_float_file(directions: int, exported: Exported, plugins: PluginSet):
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 16, batch_first=True, bidirectional=directions == 2)
            self.head = nn.Linear(16 * directions, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0].mean(1))

    source = exported(Tagger(), 1, 9, 8)
    target = quantized(plugins, "quantize_dynamic", source, [], {"weights": "QInt8"})
    assert "DynamicQuantizeLSTM" in {n.op_type for n in onnx.load(str(target)).graph.node}
    (params, macs), (params8, macs8) = count(source), count(target)
    assert macs8 == macs == directions * 9 * 4 * 16 * (8 + 16) + 16 * directions * 3
    assert params8 == pytest.approx(params, rel=0.05)
    assert target.stat().st_size < source.stat().st_size


@pytest.mark.parametrize(
    ("name", "params"), [("quantize_weights", {"bits": 8}), ("quantize_weights", {"bits": 4}), ("float16", {})]
)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3, bias=False)), (2, 10)),
        (nn.Sequential(nn.Linear(37, 20), nn.ReLU(), nn.Linear(20, 4)), (2, 5, 37)),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, stride=2)), (1, 3, 9, 9)),
        (First(nn.GRU(5, 6, num_layers=2, batch_first=True, bidirectional=True)), (3, 7, 5)),
    ],
    ids=["linear", "linear on a sequence", "convolutions", "recurrent"],
)
def test_smaller_weights_count_as_their_float_file(
    name: str,
    params: dict[str, Any],
    layer: nn.Module,
    shape: Sequence[int],
    exported: Exported,
    plugins: PluginSet,
):
    source = exported(layer, *shape)
    target = quantized(plugins, name, source, [], params)
    assert count(target) == count(source)


def test_counting_leaves_nothing_in_the_working_folder(exported: Exported, plugins: PluginSet, working_folder: Path):
    source = exported(First(nn.LSTM(8, 16, batch_first=True)), 1, 9, 8)
    target = quantized(plugins, "quantize_dynamic", source, [], {"weights": "QInt8"})
    count(target)
    assert list(working_folder.iterdir()) == []


def test_scales_and_zero_points_are_no_parameters_whatever_their_names(tmp_path: Path):
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]),
            helper.make_node("MatMul", ["d", "v"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [
            onnx.numpy_helper.from_array(np.array(0.1, np.float32), "s"),
            onnx.numpy_helper.from_array(np.array(0, np.int8), "z"),
            onnx.numpy_helper.from_array(np.ones((5, 2), np.int8), "w"),
        ],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "qdq.onnx"))
    assert count(tmp_path / "qdq.onnx") == (10, 10)


def test_weight_that_is_called_a_scale_is_a_parameter(exported: Exported):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer_scale = nn.Parameter(torch.rand(6))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.layer_scale

    assert count(exported(Scaled(), 1, 6))[0] == 6

"""The number format that a file is said to compute in, read off its graph."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from autocompress.candidate.precision import precision_of

FLOAT, HALF, INT8, INT4 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT4


@pytest.mark.parametrize(
    ("operators", "weights", "said"),
    [
        (["Conv", "Relu"], [FLOAT], "float32"),
        (["Cast", "Conv", "Cast"], [HALF, HALF, FLOAT], "float16"),
        (["QuantizeLinear", "DequantizeLinear", "Conv"], [INT8], "int8 static"),
        (["QLinearConv"], [INT8], "int8 static"),
        (["DynamicQuantizeLinear", "MatMulInteger"], [INT8, FLOAT], "int8 dynamic"),
        (["DynamicQuantizeLSTM"], [INT8], "int8 dynamic"),
        (["DequantizeLinear", "Conv"], [INT8, FLOAT], "int8 weights"),
        (["DequantizeLinear", "Gemm"], [INT4], "int4 weights"),
        ([], [], "float32"),
    ],
)
def test_a_file_is_called_by_what_it_computes_in(
    operators: Sequence[str], weights: Sequence[int], said: str, tmp_path: Path
) -> None:
    nodes = [helper.make_node(kind, ["w0"], [f"y{n}"]) for n, kind in enumerate(operators)]
    raw = [helper.make_tensor(f"w{n}", kind, [8], [0] * 8) for n, kind in enumerate(weights)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], raw)), tmp_path / "model.onnx")
    assert precision_of(tmp_path / "model.onnx") == said


def test_products_with_packed_weights_say_their_bits(tmp_path: Path) -> None:
    node = helper.make_node("MatMulNBits", ["x", "w"], ["y"], domain="com.microsoft", bits=4, K=8, N=8)
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [])), tmp_path / "model.onnx")
    assert precision_of(tmp_path / "model.onnx") == "int4 weights"

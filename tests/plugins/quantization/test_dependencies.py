"""What is relied on of ONNX Runtime's tools beyond what they document: this tells when it changes."""

from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.onnx_model import ONNXModel
from torch import Tensor, nn

from autocompress.plugin.contract import Context
from autocompress_plugins.quantization.ort_quantization import STATIC


class Reader(CalibrationDataReader):
    def __init__(self, context: Context) -> None:
        self.feeds = context.feeds(8)

    def get_next(self) -> object:
        return next(self.feeds, None)


def test_the_registries_list_the_operators_that_are_quantized_when_none_is_named(
    graph_context: Callable[..., Context], tiny_model: nn.Module, noise: Callable[..., Tensor], tmp_path: Path
) -> None:
    context = graph_context(tiny_model, noise(16, 1, 8, 8))
    assert {"Conv", "Gemm", "MatMul", "MaxPool", "Add"} <= set(STATIC)
    files = tmp_path / "default.onnx", tmp_path / "named.onnx"
    for file, named in zip(files, (None, STATIC), strict=True):
        reader = Reader(context)
        quantize_static(
            str(context.reference), str(file), reader, activation_type=QuantType.QUInt8, op_types_to_quantize=named
        )
    assert files[0].read_bytes() == files[1].read_bytes() != context.reference.read_bytes()


def test_the_tools_put_the_nodes_of_a_graph_into_an_order_in_which_it_runs() -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    nodes = [helper.make_node("Relu", ["between"], ["y"]), helper.make_node("Neg", ["x"], ["between"])]
    model = ONNXModel(helper.make_model(helper.make_graph(nodes, "g", [x], [y])))
    model.topological_sort()
    assert [node.op_type for node in model.model.graph.node] == ["Neg", "Relu"]
    onnx.checker.check_model(model.model)

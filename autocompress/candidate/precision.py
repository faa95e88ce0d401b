"""The number format that a file computes in, read off its graph: a recipe says what was done, not what came of it."""

from collections import Counter
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto

NOT_STATIC = ("DynamicQuantize", "ConvInteger", "MatMulInteger")  # operators that scale activations in each call
FLOATING = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
NAMES = {"float": "float32", "double": "float64"}  # others are called as ONNX calls them


def precision_of(path: Path) -> str:
    """``int8 static`` or ``int8 dynamic`` where activations are quantized, by scales in the file or in each call;
    ``int8 weights`` where weights alone are; else the format of most floating-point weights, such as ``float32``.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    if any(operator.startswith(NOT_STATIC) for operator in operators):
        return "int8 dynamic"
    if "QuantizeLinear" in operators or any(operator.startswith("QLinear") for operator in operators):
        return "int8 static"
    bits = [a.i for node in graph.node if node.op_type == "MatMulNBits" for a in node.attribute if a.name == "bits"]
    if bits:
        return f"int{min(bits)} weights"
    weights: Counter[int] = Counter()
    for tensor in graph.initializer:
        weights[tensor.data_type] += prod(tensor.dims)
    if "DequantizeLinear" in operators:
        read = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        kinds = {_name(tensor.data_type) for tensor in graph.initializer if tensor.name in read}
        return f"{min(kinds).removeprefix('u')} weights" if kinds else "float32"
    return _name(max(FLOATING, key=lambda kind: weights[kind]))


def _name(kind: int) -> str:
    name = str(TensorProto.DataType.Name(kind)).lower()
    return NAMES.get(name, name)

"""A tiny quantized file whose output tells whether a target cuts off sums of int8 products.

x86 processors without VNNI multiply unsigned activations by signed weights in pairs and add each pair in 16 bits: two
products of 255 and 127 do not fit, and the largest number that does stands in their place. With weights of seven bits,
up to 64, every pair fits. Which kernel runs is the runtime's choice, so that no list of processors answers for it.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from autocompress.data import Array, Feed

ROWS, DEPTH, COLUMNS = 4, 64, 16
ACTIVATION, WEIGHT = 255, 127  # the largest of uint8 and of int8
EXACT = float(DEPTH * ACTIVATION * WEIGHT)
OFF = 0.01  # relative, at most: far more than the rounding of a scale, far less than what is cut off


def write_product(path: Path) -> Feed:
    """Write a matrix product of quantized activations and weights, and return the activations."""
    constants: dict[str, Array] = {
        "scale": np.array(1, np.float32),
        "zero": np.array(0, np.uint8),
        "weight": np.full((DEPTH, COLUMNS), WEIGHT, np.int8),
        "weight_zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["activations"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "weight_zero"], ["weights"]),
        helper.make_node("MatMul", ["activations", "weights"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [ROWS, size])
        for name, size in (("input", DEPTH), ("output", COLUMNS))
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return {"input": np.full((ROWS, DEPTH), ACTIVATION, np.float32)}


def is_exact(product: Array) -> bool:
    return bool(np.allclose(product, EXACT, rtol=OFF))

"""The int8 weights of an ONNX file stored as uint8, each 128 higher and with a zero point 128 higher: what they stand
for stays the same.

x86 processors without VNNI cut off sums of products of unsigned activations and signed weights at 16 bits; ONNX
Runtime's kernels for unsigned activations and unsigned weights (U8U8) add in 32 bits on any processor. Follows: ONNX
Runtime's documentation, "Quantize ONNX models", on U8S8 and U8U8.
"""

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from autocompress.plugin.contract import Array

# Where operators take quantized weights, and where the zero points of these.
WEIGHT_PLACES = {
    "DequantizeLinear": {0: 2},
    "MatMulInteger": {1: 3},
    "DynamicQuantizeLSTM": {1: 9, 2: 11},
}
HIGHER = 128


def with_unsigned_weights(model: ModelProto) -> ModelProto:
    """``model``, changed in place: every int8 constant with a constant zero point that an operator takes at one of its
    ``WEIGHT_PLACES`` is uint8, under the same name unless something else reads it. What comes without a zero point is
    left as it is.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.INT8}
    taken = {
        (number, at)
        for number, node in enumerate(graph.node)
        for places in WEIGHT_PLACES.get(node.op_type, {}).items()
        if max(places) < len(node.input) and all(node.input[at] in constants for at in places)
        for at in places
    }
    elsewhere = {
        name
        for number, node in enumerate(graph.node)
        for at, name in enumerate(node.input)
        if (number, at) not in taken
    }
    made: dict[str, Array] = {}
    for number, at in sorted(taken):
        old = graph.node[number].input[at]
        new = f"{old}_unsigned" if old in elsewhere else old
        graph.node[number].input[at] = new
        made[new] = (numpy_helper.to_array(constants[old]).astype(np.int16) + HIGHER).astype(np.uint8)
    kept = [tensor for tensor in graph.initializer if tensor.name not in made]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *(numpy_helper.from_array(values, name) for name, values in made.items())])
    return model

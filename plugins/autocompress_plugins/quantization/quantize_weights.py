"""Weight-only quantization: weights stored as 8- or 4-bit integers, nothing to calibrate.

Changes: the ONNX file. Matrix products become MatMulNBits, with one scale for each block of a column. Convolutions,
recurrent layers and embeddings keep their operators and read int8 weights through DequantizeLinear, with one scale for
each output channel. Needs: constant weights. Follows: Dettmers & Zettlemoyer, "The case for 4-bit precision: k-bit
Inference Scaling Laws", ICML 2023: with a scale for each small block, rounding to 4 bits is enough.
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from autocompress.plugin.contract import Array, Context, GraphStrategy, Params, Strategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.quantization.kept_nodes import kept_nodes

autocompress_api = 2

BLOCK = {8: 128, 4: 32}  # weights that share a scale, at most
LEAST_BLOCK = 16
IN_INT8 = 4  # accuracy level of MatMulNBits: it multiplies in int8, on processors the only level with fast kernels
# The inputs where other operators take weights, and the axis of the output channels there.
CHANNEL_AXES = {
    "Conv": {1: 0},
    "ConvTranspose": {1: 1},
    "LSTM": {1: 1, 2: 1},
    "GRU": {1: 1, 2: 1},
    "RNN": {1: 1, 2: 1},
    "Gather": {0: 0},
}

Constants = dict[str, TensorProto]  # float32, by name
Stored = dict[str, Array]  # what takes the place of weights, by name


class QuantizeWeights(GraphStrategy):
    name = "quantize_weights"
    summary = "weights stored in 8 or 4 bits (matrix products), the rest of them in 8"
    provides = frozenset({"quantized"})
    excludes = frozenset({"quantized"})

    def refuses(self, context: Context) -> str | None:
        if not self.variants(context):
            return f"the profile {context.profile.name} runs neither int8 nor int4"
        graph = onnx.load(str(context.reference)).graph
        constants = _constants(graph)
        if any(_is_product(node, constants) or _channels(node, constants) for node in graph.node):
            return None
        return "no matrix product, convolution, recurrent layer or embedding with constant weights"

    def size_only(self, context: Context) -> str | None:
        graph = onnx.shape_inference.infer_shapes(onnx.load(str(context.reference))).graph
        constants, single = _constants(graph), _with_one_row(graph)
        waited_for = {n.input[1] for n in graph.node if _is_product(n, constants) and n.input[0] in single}
        if 2 * sum(prod(constants[name].dims) for name in waited_for) > sum(prod(c.dims) for c in constants.values()):
            return None
        return (
            "weights of fewer bits save time where a call waits for them, in matrix products with a single row, and "
            "most of this model's weights are elsewhere"
        )

    def variants(self, context: Context) -> Sequence[Params]:
        return [{"bits": bits} for bits in BLOCK if f"int{bits}" in context.profile.precisions]

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        model = onnx.shape_inference.infer_shapes(onnx.load(str(source)))  # which does not know MatMulNBits
        graph, bits, stored = model.graph, int(params["bits"]), Stored()
        constants, left = _constants(graph), set(kept_nodes(source, context))
        axes: dict[str, int] = {}
        nodes = []
        for node in graph.node:
            if node.name not in left and _is_product(node, constants):
                node = _packed(node, constants, bits, stored)
            elif node.name not in left:
                axes |= _channels(node, constants)
            nodes.append(node)
        nodes[:0] = [_dequantized(constants[name], axis, stored) for name, axis in axes.items()]
        read = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read and tensor.name not in axes]
        kept += [numpy_helper.from_array(values, name) for name, values in stored.items()]
        rest = (graph.name, graph.input, graph.output, kept)
        model.graph.CopyFrom(helper.make_graph(nodes, *rest, value_info=graph.value_info))
        if not any(own.domain == "com.microsoft" for own in model.opset_import):
            model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        onnx.save(model, str(target))


def _constants(graph: GraphProto) -> Constants:
    return {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _channels(node: NodeProto, constants: Constants) -> dict[str, int]:
    """The axis of the output channels of each weight that a node other than a matrix product takes."""
    axes = {name: CHANNEL_AXES.get(node.op_type, {}).get(at) for at, name in enumerate(node.input) if name in constants}
    return {name: axis for name, axis in axes.items() if axis is not None and len(constants[name].dims) > 1}


def _is_product(node: NodeProto, constants: Constants) -> bool:
    """Whether the node multiplies by a constant matrix and adds nothing or a constant for each column."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in constants:
        return False
    usual, given = {"alpha": 1.0, "beta": 1.0, "transA": 0}, _attributes(node)
    if any(given.get(name, value) != value for name, value in usual.items()):
        return False
    dims = list(constants[node.input[1]].dims)
    added = [list(constants[name].dims) if name in constants else None for name in node.input[2:]]
    return len(dims) == 2 and added in ([], [[dims[0] if given.get("transB") else dims[1]]])


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _packed(node: NodeProto, constants: Constants, bits: int, stored: Stored) -> NodeProto:
    """The matrix product with its weights in blocks of integers. A block's levels go from -2^(bits-1), which stands
    for its largest weight, to 2^(bits-1) - 1, stored without sign; two 4-bit levels share a byte, the first one low.
    """
    name = node.input[1]
    matrix = numpy_helper.to_array(constants[name])
    if not _attributes(node).get("transB"):
        matrix = matrix.T
    columns, rows = matrix.shape
    block = min(BLOCK[bits], max(LEAST_BLOCK, 1 << (rows - 1).bit_length()))
    blocks = np.pad(matrix, ((0, 0), (0, -rows % block))).reshape(columns, -1, block)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(2, keepdims=True), 2)
    middle = 1 << (bits - 1)
    scales = np.where(largest == 0, 1, largest / -middle).astype(np.float32)
    levels = (np.rint(blocks / scales) + middle).clip(0, 2 * middle - 1).astype(np.uint8)
    if bits == 4:
        levels = levels[:, :, ::2] | np.left_shift(levels[:, :, 1::2], 4, dtype=np.uint8)
    stored |= {f"{name}_levels": levels, f"{name}_scales": scales[:, :, 0]}
    inputs = [node.input[0], f"{name}_levels", f"{name}_scales"]
    inputs += ["", "", node.input[2]] if len(node.input) > 2 else []
    sizes = {"K": rows, "N": columns, "bits": bits, "block_size": block, "accuracy_level": IN_INT8}
    return helper.make_node("MatMulNBits", inputs, node.output, node.name, domain="com.microsoft", **sizes)


def _dequantized(weight: TensorProto, axis: int, stored: Stored) -> NodeProto:
    """A node that gives the weight from int8, under the weight's own name."""
    values = numpy_helper.to_array(weight)
    others = tuple(at for at in range(values.ndim) if at != axis)
    scales = np.abs(values).max(others, keepdims=True) / 127
    scales = np.where(scales == 0, 1, scales).astype(np.float32)
    names = f"{weight.name}_int8", f"{weight.name}_scales"
    stored |= dict(zip(names, (np.rint(values / scales).astype(np.int8), scales.ravel()), strict=True))
    return helper.make_node("DequantizeLinear", names, [weight.name], f"{weight.name}_dequantized", axis=axis)


def _with_one_row(graph: GraphProto) -> set[str]:
    """The activations that are a single row of numbers."""
    found = set()
    for value in (*graph.input, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if dims and all(d.dim_value == 1 for d in dims[:-1]):
            found.add(value.name)
    return found


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [QuantizeWeights()]

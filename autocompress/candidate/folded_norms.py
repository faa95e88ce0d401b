"""Batch norms that are part of a matrix product or a convolution in every file: of the product before them, whose
channels they scale, or of those behind them, whose inputs they do. Training keeps them.

What every runtime folds (a norm directly behind a convolution) is folded before; here it is what may lie between, a
transposition for one, and what is computed with matrices. Which norms go depends on the graph alone, not on the values
of weights, so that all files of a structure have one graph. A norm that is given an input of the model stays, for int8
files: features of any scales have one scale for all of them there.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
section 3.2.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from autocompress.candidate.graph_parts import (
    ChannelScaling,
    attributes_of,
    float_constants,
    read_in,
    remove_unread,
    scaling_of,
)
from autocompress.plugin.contract import NORM_BEFORE, Array

NORM_BEHIND = "norm_behind/"  # before the names of weights that only a norm behind the product is part of
RESHAPING = ("Reshape", "Flatten")
MATRICES = ("Gemm", "MatMul")
Shape = Sequence[int | None]  # None: a size that varies, or is not known


def fold_batch_norms(model: onnx.ModelProto) -> int:
    """Make batch norms part of products with constant weights, in place, where that computes the same. Returns how
    many.
    """
    shapes = _shapes(onnx.shape_inference.infer_shapes(model).graph) if _norms(model.graph) else {}
    folded = 0
    while _fold_one(model.graph, shapes):
        folded += 1
    return folded


def _norms(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "BatchNormalization"]


def _fold_one(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> bool:
    """The first norm that can go."""
    found = _Graph(graph, shapes)
    for norm in _norms(graph):
        shape, scaling = shapes.get(norm.output[0]), scaling_of(norm, found.constants)
        if shape is None or scaling is None:
            continue
        if product := found.product_before(norm.input[0], 1, shape):
            found.scale_outputs(product, scaling)
            found.take_out(norm, given_by_what_is_before=True)
            return True
        if not found.is_given(norm.input[0]) and (behind := found.products_behind(norm.output[0], 1, shape)):
            for product, places in behind:
                found.scale_inputs(product, scaling, places)
            found.take_out(norm, given_by_what_is_before=False)
            return True
    return False


class _Graph:
    """A graph as it is read and changed. An axis is the one along which channels lie."""

    def __init__(self, graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> None:
        self._graph = graph
        self._shapes = shapes
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self._made = {name: node for node in graph.node for name in node.output}
        self._reads = Counter(read_in(graph))
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)

    def is_given(self, value: str) -> bool:
        """Whether it is an input of the graph, in whichever shape."""
        node = self._made.get(value)
        return node is None or (node.op_type in (*RESHAPING, "Transpose", "Cast") and self.is_given(node.input[0]))

    def product_before(self, value: str, axis: int, shape: Shape) -> onnx.NodeProto | None:
        """The matrix product whose outputs are the channels of a value; None where something else reads them."""
        node, last = self._made.get(value), axis == len(shape) - 1
        if node is None or self._reads[value] != 1:
            return None
        before = node.input[0]
        if node.op_type == "Transpose":
            order = _order(node, len(shape))
            return self.product_before(before, order[axis], [shape[order.index(a)] for a in range(len(shape))])
        if node.op_type in RESHAPING and last:
            given = self._shapes.get(before)
            if given and shape[-1] is not None and given[-1] == shape[-1]:
                return self.product_before(before, len(given) - 1, given)
        if node.op_type == "Add" and last:
            product = next((self._made[name] for name in node.input if name in self._made), None)
            add = None if product is None else self._bias_behind(product)
            return product if add is not None and add.output[0] == value else None
        return node if node.op_type in MATRICES and last and self._has_weights(node) else None

    def products_behind(
        self, value: str, axis: int, shape: Shape, places: int = 1
    ) -> list[tuple[onnx.NodeProto, int]] | None:
        """All products that a value goes into, and how many inputs each of its channels is there; None where something
        else reads it.
        """
        readers, last = self._readers[value], axis == len(shape) - 1
        found: list[tuple[onnx.NodeProto, int]] = []
        if len(readers) != self._reads[value]:
            return None
        for node in readers:
            further = self._products_through(node, axis, shape, places) if node.input[0] == value else None
            if (node.op_type in MATRICES and last) or (node.op_type == "Conv" and axis == 1 and not _is_padded(node)):
                further = [(node, places)] if node.input[0] == value and self._has_weights(node) else None
            if further is None:
                return None
            found += further
        return found or None

    def _products_through(
        self, node: onnx.NodeProto, axis: int, shape: Shape, places: int
    ) -> list[tuple[onnx.NodeProto, int]] | None:
        """Behind a node that changes no value, or gives means of a channel."""
        gives = node.output[0]
        if node.op_type == "Transpose":
            order = _order(node, len(shape))
            return self.products_behind(gives, order.index(axis), [shape[a] for a in order], places)
        if node.op_type == "GlobalAveragePool" and axis == 1:
            return self.products_behind(gives, axis, [*shape[:2], *[1] * (len(shape) - 2)], places)
        to = self._shapes.get(gives) if node.op_type in RESHAPING else None
        if not to or to[-1] is None:
            return None
        if axis == len(shape) - 1 and to[-1] == shape[-1]:
            return self.products_behind(gives, len(to) - 1, to, places)
        each = [size for size in shape[axis:] if size is not None]
        if axis == 1 and len(to) == 2 and len(each) == len(shape) - 1 and to[-1] == math.prod(each):
            return self.products_behind(gives, 1, to, math.prod(each[1:]))
        return None

    def scale_outputs(self, product: onnx.NodeProto, scaling: ChannelScaling) -> None:
        weight, bias = self._weights(product)
        mark = NORM_BEFORE if product.input[1].startswith(NORM_BEFORE) else NORM_BEHIND
        self._set_weights(product, weight * scaling.scale, bias * scaling.scale + scaling.shift, mark)

    def scale_inputs(self, product: onnx.NodeProto, scaling: ChannelScaling, places: int) -> None:
        weight, bias = self._weights(product)
        scale, shift = np.repeat(scaling.scale, places), np.repeat(scaling.shift, places)
        if product.op_type in MATRICES:
            self._set_weights(product, weight * scale[:, None], bias + shift @ weight, NORM_BEFORE)
            return
        groups = attributes_of(product).get("group", 1)
        apart = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
        scale, shift = (each.reshape(groups, 1, -1, *[1] * (weight.ndim - 2)) for each in (scale, shift))
        given = (apart * shift).sum(axis=tuple(range(2, apart.ndim)))
        self._set_weights(product, (apart * scale).reshape(weight.shape), bias + given.reshape(-1), NORM_BEFORE)

    def take_out(self, norm: onnx.NodeProto, *, given_by_what_is_before: bool) -> None:
        """given_by_what_is_before: what gave the norm's input gives its output; otherwise who read its output reads its
        input.
        """
        self._graph.node.remove(norm)
        for node in self._graph.node:
            if given_by_what_is_before:
                node.output[:] = [norm.output[0] if name == norm.input[0] else name for name in node.output]
            else:
                node.input[:] = [norm.input[0] if name == norm.output[0] else name for name in node.input]
        remove_unread(self._graph, self.constants.keys())

    def _has_weights(self, product: onnx.NodeProto) -> bool:
        """Whether it is a plain product with a constant, which nothing else reads."""
        how, weights = attributes_of(product), float_constants(product, self.constants)
        plain = how.get("alpha", 1.0) == how.get("beta", 1.0) == 1.0 and not how.get("transA", 0)
        if not plain or weights is None or self._reads[product.input[1]] != 1:
            return False
        if product.op_type in MATRICES and weights[0].ndim != 2:
            return False
        channels = _outputs(product, weights[0])
        return len(weights) < 2 or weights[1].size == channels == max(weights[1].shape, default=1)

    def _bias_behind(self, product: onnx.NodeProto) -> onnx.NodeProto | None:
        """The addition of a number to each output of a ``MatMul``."""
        readers = self._readers[product.output[0]]
        if product.op_type != "MatMul" or self._reads[product.output[0]] != 1 or len(readers) != 1:
            return None
        (add,) = readers
        added = next((self.constants[name] for name in add.input if name in self.constants), None)
        if add.op_type != "Add" or added is None or not self._has_weights(product):
            return None
        channels = self.constants[product.input[1]].dims[-1]
        alone = math.prod(added.dims) == channels == (added.dims or [1])[-1]
        return add if alone and added.data_type == onnx.TensorProto.FLOAT else None

    def _weights(self, product: onnx.NodeProto) -> tuple[Array, Array]:
        """Of a matrix (inputs, outputs), of a convolution as it is; and what is added to each output."""
        held = float_constants(product, self.constants)
        assert held is not None
        weight, bias = held[0], held[1:]
        if add := self._bias_behind(product):
            name = next(name for name in add.input if name in self.constants)
            bias = [numpy_helper.to_array(self.constants[name]).astype(np.float64)]
        none = np.zeros(_outputs(product, weight))
        return weight.T if _is_transposed(product) else weight, bias[0].reshape(-1) if bias else none

    def _set_weights(self, product: onnx.NodeProto, weight: Array, bias: Array, mark: str) -> None:
        name, add = f"{mark}{product.output[0]}", self._bias_behind(product)
        for suffix, values in (("weight", weight.T if _is_transposed(product) else weight), ("bias", bias)):
            tensor = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), f"{name}.{suffix}")
            if known := self.constants.get(tensor.name):
                known.CopyFrom(tensor)
            else:
                self._graph.initializer.append(tensor)
        if product.op_type != "MatMul":
            product.input[1:] = [f"{name}.weight", f"{name}.bias"]
            return
        product.input[1] = f"{name}.weight"
        if add is not None:
            add.input[:] = [product.output[0], f"{name}.bias"]
            return
        place = list(self._graph.node).index(product)
        add = onnx.helper.make_node("Add", [name, f"{name}.bias"], [product.output[0]], f"{product.name}_bias")
        self._graph.node.insert(place + 1, add)
        self._graph.node[place].output[0] = name


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    types = {v.name: v.type.tensor_type for v in (*graph.input, *graph.value_info, *graph.output)}
    return {
        name: [axis.dim_value if axis.HasField("dim_value") else None for axis in own.shape.dim]
        for name, own in types.items()
        if own.HasField("shape")
    }


def _order(transposition: onnx.NodeProto, axes: int) -> list[int]:
    return list(attributes_of(transposition).get("perm", range(axes - 1, -1, -1)))


def _is_transposed(product: onnx.NodeProto) -> bool:
    return bool(attributes_of(product).get("transB", 0))


def _outputs(product: onnx.NodeProto, weight: Array) -> int:
    return int(weight.shape[0 if product.op_type == "Conv" or _is_transposed(product) else -1])


def _is_padded(convolution: onnx.NodeProto) -> bool:
    """Whether it is given zeros at the borders, which a norm would not have given."""
    how = attributes_of(convolution)
    return any(how.get("pads", ())) or how.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")

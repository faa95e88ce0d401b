"""What tells the graph of one ONNX file from that of another: what is computed and on which shapes and types, not the
values of weights. Latency follows from it, so files of one graph can share their measurements.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

_DIGITS = 20
_MOST_SHAPE_ELEMENTS = 64  # of a constant of whole numbers that can be a shape, axes, or the like
_WHOLE = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
_SCALED = ("Resize", "Upsample")  # their floating-point inputs decide on shapes too
# Whole numbers that these take are weights, biases and zero points.
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "QGemm")
_QUANTIZED_PREFIXES = ("QLinear", "DynamicQuantize", "MatMulNBits", "QAttention", "QEmbed")
_Constant = TensorProto | onnx.SparseTensorProto | AttributeProto
_CONSTANTS = ("value", "value_int", "value_ints", "value_float", "value_floats")


def graph_digest(path: Path) -> str:
    """20 hexadecimal digits that are the same for two ONNX files of one graph, and differ for others.

    Counted are operators, their attributes and how they are connected, the shapes and types of inputs, outputs and
    constants, opset versions, and the values of constants of at most 64 whole numbers, which can be shapes or axes. An
    attribute that says what holds without it counts as left out: who rewrites a graph may write it down.
    Not counted are names, the order of nodes, which constants are stored once for several uses, and the values of all
    other constants: weights, scales, zero points, quantized biases, bounds. Bodies of ``If``, ``Loop`` and ``Scan`` are
    part of the graph. Data in other files is not read.

    Nodes are told apart by everything they are computed from and everything computed from them, as two rounds of
    Weisfeiler and Lehman's refinement along the graph's direction do (Nauchno-Technicheskaya Informatsia 2(9), 1968).

    Raises OSError when the file cannot be read, and what protobuf raises when it is no ONNX file.
    """
    model = onnx.load(str(path), load_external_data=False)
    domains = set(_domains(model.graph.node)).union(*(_domains(function.node) for function in model.functions))
    opsets = {_domain(o.domain): o.version for o in model.opset_import if _domain(o.domain) in domains}
    functions = sorted(
        _hash(
            _domain(function.domain),
            function.name,
            _Graph.of_nodes(function.node, function.input, function.output, opsets).digest(),
        )
        for function in model.functions
    )
    return _hash(sorted(opsets.items()), functions, _Graph.of_graph(model.graph, opsets).digest())[:_DIGITS]


class _Graph:
    """One graph or body of a graph.

    outer: the graph around a body, whose values it may read. known: value -> digest of what it is computed from.
    nodes: with the digest of each. symbols: numbers of the names of axes that vary. opsets: version by domain.
    """

    def __init__(self, opsets: Mapping[str, int], outer: "_Graph | None" = None) -> None:
        self.opsets = opsets
        self.known: dict[str, str] = dict(outer.known) if outer else {}
        self.constants: dict[str, _Constant] = dict(outer.constants) if outer else {}
        self.symbols: dict[str, int] = outer.symbols if outer else {}
        self.nodes: list[tuple[NodeProto, str]] = []
        self.inputs: list[str] = []
        self.outputs: list[tuple[str, str]] = []  # with the digest of its place and type

    @classmethod
    def of_graph(cls, graph: GraphProto, opsets: Mapping[str, int], outer: "_Graph | None" = None) -> "_Graph":
        found = cls(opsets, outer)
        found.constants.update({tensor.name: tensor for tensor in graph.initializer})
        found.constants.update({tensor.values.name: tensor for tensor in graph.sparse_initializer})
        for place, value in enumerate(graph.input):
            found._add_input(value.name, place, found._type(value.type))
        found._add_nodes(graph.node)
        found.outputs = [(v.name, _hash("output", at, found._type(v.type))) for at, v in enumerate(graph.output)]
        return found

    @classmethod
    def of_nodes(
        cls, nodes: Iterable[NodeProto], inputs: Iterable[str], outputs: Iterable[str], opsets: Mapping[str, int]
    ) -> "_Graph":
        """What a function of the file computes."""
        found = cls(opsets)
        for place, name in enumerate(inputs):
            found._add_input(name, place, None)
        found._add_nodes(nodes)
        found.outputs = [(name, _hash("output", place)) for place, name in enumerate(outputs)]
        return found

    def digest(self) -> str:
        """Of all nodes and inputs, each with what it is computed from and what is computed from it."""
        uses: dict[str, list[str]] = defaultdict(list)
        for name, place in self.outputs:
            uses[name].append(_hash(place, self._source(name, "")))
        found = []
        for node, computed_from in reversed(self.nodes):
            both = _hash(computed_from, [sorted(uses[name]) for name in _given(node.output)])
            found.append(both)
            for at, name in enumerate(node.input):
                uses[name].append(_hash(both, at))
            for name in _read_inside(node):
                uses[name].append(_hash(both, "inside"))
        found += [_hash(self.known[name], sorted(uses[name])) for name in self.inputs]
        outputs = [_hash(place, self._source(name, "")) for name, place in self.outputs]
        return _hash(sorted(found), outputs)

    def _add_input(self, name: str, place: int, kind: object) -> None:
        default = self._constant(self.constants[name], "") if name in self.constants else None
        self.known[name] = _hash("input", place, kind, default)
        self.inputs.append(name)

    def _add_nodes(self, nodes: Iterable[NodeProto]) -> None:
        for node in nodes:
            constant = next((a for a in node.attribute if a.name in _CONSTANTS), None)
            if node.op_type == "Constant" and not _domain(node.domain) and constant is not None:
                self.constants[node.output[0]] = constant.t if constant.HasField("t") else constant
                continue
            computed_from = _hash(
                _domain(node.domain),
                node.op_type,
                sorted((a.name, self._attribute(a)) for a in node.attribute if not self._says_nothing(node, a)),
                [self._source(name, node.op_type) for name in _given(node.input)],
                [bool(name) for name in _given(node.output)],
            )
            self.nodes.append((node, computed_from))
            self.known.update({name: _hash(computed_from, at) for at, name in enumerate(node.output) if name})

    def _source(self, name: str, taken_by: str) -> str:
        """Digest of a value, as an operator of the type ``taken_by`` takes it."""
        if name in self.known:
            return self.known[name]
        return self._constant(self.constants[name], taken_by) if name in self.constants else _hash("none", bool(name))

    def _constant(self, constant: _Constant, taken_by: str) -> str:
        if isinstance(constant, AttributeProto):
            constant = _tensor_of(constant)
        if isinstance(constant, onnx.SparseTensorProto):
            return _hash("sparse", constant.values.data_type, list(constant.dims), list(constant.values.dims))
        return _hash("constant", constant.data_type, list(constant.dims), _shape_values(constant, taken_by))

    def _attribute(self, attribute: AttributeProto) -> Any:
        if attribute.ref_attr_name:
            return "refers to", attribute.ref_attr_name
        value = onnx.helper.get_attribute_value(attribute)
        parts = list(value) if isinstance(value, Sequence) and not isinstance(value, bytes | str) else [value]
        return int(attribute.type), [self._attribute_part(part) for part in parts]

    def _says_nothing(self, node: NodeProto, attribute: AttributeProto) -> bool:
        """Whether an attribute has the value that it has when it is left out."""
        domain = _domain(node.domain)
        defaults = _defaults(node.op_type, self.opsets.get(domain, 1), domain)
        return attribute.name in defaults and attribute.SerializeToString() == defaults[attribute.name]

    def _attribute_part(self, value: Any) -> Any:
        if isinstance(value, GraphProto):
            return _Graph.of_graph(value, self.opsets, self).digest()
        if isinstance(value, TensorProto | onnx.SparseTensorProto):
            return self._constant(value, "")
        return value.SerializeToString(deterministic=True) if hasattr(value, "SerializeToString") else value

    def _type(self, kind: onnx.TypeProto) -> Any:
        if not kind.HasField("tensor_type"):
            return kind.SerializeToString(deterministic=True)
        tensor = kind.tensor_type
        return tensor.elem_type, [self._axis(a) for a in tensor.shape.dim] if tensor.HasField("shape") else None

    def _axis(self, axis: onnx.TensorShapeProto.Dimension) -> int | str:
        if axis.HasField("dim_value"):
            return axis.dim_value
        return f"symbol {self.symbols.setdefault(axis.dim_param, len(self.symbols))}" if axis.dim_param else "unknown"


@cache
def _defaults(operator: str, version: int, domain: str) -> dict[str, bytes]:
    """The attributes that an operator has when they are left out; none of one that ONNX does not know."""
    if not onnx.defs.has(operator, version, domain):
        return {}
    known = onnx.defs.get_schema(operator, version, domain).attributes
    return {name: own.default_value.SerializeToString() for name, own in known.items() if own.default_value.type}


def _shape_values(tensor: TensorProto, taken_by: str) -> list[Any] | None:
    """The values of a constant that can decide what is computed; None for those that are learned."""
    quantized = taken_by in _QUANTIZED or taken_by.startswith(_QUANTIZED_PREFIXES)
    counts = (tensor.data_type in _WHOLE and not quantized) or taken_by in _SCALED
    here = tensor.data_location != TensorProto.EXTERNAL
    if not counts or not here or prod(tensor.dims) > _MOST_SHAPE_ELEMENTS:
        return None
    return list(numpy_helper.to_array(tensor).reshape(-1).tolist())


def _tensor_of(attribute: AttributeProto) -> TensorProto:
    """The tensor that a ``Constant`` of numbers stands for."""
    value = onnx.helper.get_attribute_value(attribute)
    listed = attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS)
    whole = attribute.type in (AttributeProto.INT, AttributeProto.INTS)
    values = list(value) if listed else [value]
    kind = TensorProto.INT64 if whole else TensorProto.FLOAT
    return onnx.helper.make_tensor("", kind, [len(values)] if listed else [], values)


def _read_inside(node: NodeProto) -> list[str]:
    """The values of the graph around them that the bodies of a node read, each as often as it is read."""
    found: list[str] = []
    for attribute in node.attribute:
        for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            own = {v.name for v in body.input} | {t.name for t in body.initializer}
            own |= {name for inner in body.node for name in inner.output}
            read = [name for inner in body.node for name in (*inner.input, *_read_inside(inner))]
            read += [value.name for value in body.output]
            found += [name for name in read if name and name not in own]
    return found


def _given(names: Iterable[str]) -> list[str]:
    """Without the names at the end that stand for nothing."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _domains(nodes: Iterable[NodeProto]) -> Iterable[str]:
    """The domains of operators, those in bodies included."""
    for node in nodes:
        yield _domain(node.domain)
        for attribute in node.attribute:
            for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _domains(body.node)


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()

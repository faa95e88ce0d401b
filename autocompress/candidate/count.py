"""Parameters and multiply-accumulates, counted on the ONNX graph itself: torch's counters do not see recurrent
layers.
"""

import tempfile
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import NodeProto, TensorProto

from autocompress.data import Feed

Shapes = dict[str, tuple[int, ...]]


def count(path: Path, feed: Feed | None = None) -> tuple[int, int]:
    """(parameters, multiply-accumulates of one call) of an ONNX file; of one with free axes, of a call with ``feed``.

    Parameters are the elements of the weights and biases; scales, zero points and shapes are not parameters.
    Operators without multiplication by weights or between activations count as nothing.
    """
    model = onnx.load(str(path))
    called = model if feed is None or not has_free_axes(model) else _with_sizes(model, feed)
    shapes = _shapes(called)
    macs = 0
    for node in called.graph.node:
        counter = _COUNTERS.get(node.op_type)
        if counter is not None and all(name in shapes for name in (*node.input[:2], node.output[0]) if name):
            macs += counter(node, shapes)
    return _parameters(model), macs


def compressed_size(path: Path) -> int:
    """Bytes of a file after DEFLATE (RFC 1951), about as a download or an app bundle holds it.

    Packed by the fastest setting, so that no candidate waits for it; slower ones save a few per cent more.
    """
    packer, size = zlib.compressobj(level=1), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def _parameters(model: onnx.ModelProto) -> int:
    names = {tensor.name for tensor in model.graph.initializer}
    aside = {
        name
        for node in model.graph.node
        for at in _QUANTIZERS.get(node.op_type, ())
        for name in node.input[at : at + 1]
    }
    # Dynamic quantization multiplies by the scale afterwards; it names the three tensors of a weight alike.
    stems = {name.removesuffix("_quantized") for name in names if name.endswith("_quantized")}
    aside |= {f"{stem}{suffix}" for stem in stems for suffix in ("_scale", "_zero_point")}
    # Its weights share bytes and are filled up to whole blocks.
    packed = {n.input[1]: _size(n, "K") * _size(n, "N") for n in model.graph.node if n.op_type == "MatMulNBits"}
    kinds = (TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)
    counted = [t for t in model.graph.initializer if t.name not in aside and t.data_type not in kinds]
    return sum(packed.get(t.name, prod(t.dims)) for t in counted)


def _shapes(model: onnx.ModelProto) -> Shapes:
    """Every static shape the file states or inference finds. Quantizers state the shapes around the operators of their
    own that inference does not know."""
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes: Shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes


def has_free_axes(model: onnx.ModelProto) -> bool:
    """Whether an input of the file takes more sizes than one."""
    return any(d.WhichOneof("value") != "dim_value" for v in model.graph.input for d in v.type.tensor_type.shape.dim)


def _with_sizes(model: onnx.ModelProto, feed: Feed) -> onnx.ModelProto:
    """The model with the sizes of one call built in, and with them the shapes inside, which ONNX Runtime infers: it
    knows operators of its own, and follows sizes that are computed.
    """
    fixed, sizes = onnx.ModelProto(), dict[str, int]()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in feed:
            for dim, size in zip(value.type.tensor_type.shape.dim, feed[value.name].shape, strict=True):
                sizes[dim.dim_param] = dim.dim_value = size
    for value in (*fixed.graph.value_info, *fixed.graph.output):  # a size that only follows is inferred
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes and dim.dim_param:
                dim.dim_value = sizes[dim.dim_param]
        if any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            value.type.tensor_type.ClearField("shape")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "sized.onnx")
        try:
            ort.InferenceSession(fixed.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return onnx.load(options.optimized_model_filepath)
        except Exception:  # ONNX Runtime has no common base for what it raises
            return fixed


def _conv(node: NodeProto, shapes: Shapes) -> int:
    weight = shapes[node.input[_weight(node)]]
    return prod(shapes[node.output[0]]) * prod(weight[1:])


def _conv_transpose(node: NodeProto, shapes: Shapes) -> int:
    return prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])


def _matmul(node: NodeProto, shapes: Shapes) -> int:
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _matmul_nbits(node: NodeProto, shapes: Shapes) -> int:
    return prod(shapes[node.output[0]]) * _size(node, "K")


def _size(node: NodeProto, name: str) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == name)


def _gemm(node: NodeProto, shapes: Shapes) -> int:
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]


def _recurrent(node: NodeProto, shapes: Shapes) -> int:
    sequence, batch = shapes[node.input[0]][:2]
    return sequence * batch * (prod(shapes[node.input[1]]) + prod(shapes[node.input[2]]))


def _weight(node: NodeProto) -> int:
    return 3 if node.op_type == "QLinearConv" else 1


# Where an operator takes scales and zero points.
_QUANTIZERS: dict[str, tuple[int, ...]] = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "DynamicQuantizeMatMul": (2, 3),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "MatMulNBits": (2, 3),
}
_COUNTERS: dict[str, Callable[[NodeProto, Shapes], int]] = {
    "Conv": _conv,
    "FusedConv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "MatMulInteger": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "QLinearMatMul": _matmul,
    "MatMulNBits": _matmul_nbits,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
}

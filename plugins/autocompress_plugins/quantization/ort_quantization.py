"""What the strategies share that use ONNX Runtime's quantization tools."""

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from autocompress.plugin.contract import Array, Context, Feed, Params
from autocompress_plugins.unsigned_weights import with_unsigned_weights

CALIBRATION_EXAMPLES = 256
STATIC_OPERATORS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}  # products with weights that have a static int8 form
UNSIGNED = "QUInt8"  # the type of weights that are not signed, as the tools call it
STATIC = sorted({*QDQRegistry, *QLinearOpsRegistry})  # the operators that the tools' quantize_static takes by default


@contextmanager
def without_advice() -> Iterator[None]:
    """The tools advise pre-processing on the root logger at every call; it has been done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def has_constant_weights(path: Path, operators: Collection[str]) -> bool:
    """Whether one of ``operators`` in the file takes a constant, which is what can be quantized ahead."""
    graph = onnx.load(str(path)).graph
    constants = {tensor.name for tensor in graph.initializer}
    return any(node.op_type in operators and constants & set(node.input) for node in graph.node)


def weight_kinds(context: Context) -> Sequence[Params]:
    """What variants say of their weights, in a recipe for the same file on any machine. Where the target sums products
    exactly, nothing: signed weights of eight bits. Where it cuts sums off, one of seven bits, the other of unsigned
    weights, and which pays is measured.

    On a processor with VNNI of which AVX2 alone was visible (CPUID masked), the error of the outputs as a share of
    their deviation, and the speed beside float32: a static CNN with signed weights of eight bits 21 % and 1.46x, of
    seven 0.88 % and 1.46x, with unsigned ones 0.86 % and 1.04x; a dynamic LSTM 6.6 % and 2.86x, 0.32 % and 2.85x,
    0.22 % and 2.05x.
    """
    if context.runtime.saturates(context.profile):
        return {"reduce_range": True}, {"weights": UNSIGNED}
    return ({},)


def reduced(params: Params) -> bool:
    """Whether a variant's weights have seven bits."""
    return bool(params.get("reduce_range", False))


def unsigned(params: Params) -> bool:
    """Whether a variant's weights are uint8."""
    return params.get("weights") == UNSIGNED


def named(path: Path) -> onnx.ModelProto:
    """The file with a name for every node, by which the tools choose among them; exporters leave some without."""
    model = onnx.load(str(path))
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return model


def with_all_outputs(path: Path) -> onnx.ModelProto:
    """The file with every activation among its outputs, after its own."""
    model = onnx.load(str(path))
    stated = {value.name for value in model.graph.output}
    inner = [name for node in model.graph.node for name in node.output if name and name not in stated]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    return model


def quantized(
    source: Path,
    ranges: Mapping[str, tuple[float, float]],
    params: Params,
    *,
    only: Collection[str] = (),
    never: Collection[str] = (),
) -> onnx.ModelProto:
    """The file with int8 weights per channel and QDQ nodes around activations of the given ranges.

    params: of a variant: ``activations``, "QUInt8" or "QInt8", and one of ``weight_kinds``. only, never: the names, in
    ``named``, of the nodes to quantize and of those to leave in float; with nothing in ``only`` all are quantized.
    """
    extremes = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    with without_advice():
        quantizer = QDQQuantizer(
            named(source),
            per_channel=True,
            reduce_range=reduced(params),
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType[str(params["activations"])],
            tensors_range=TensorsData(CalibrationMethod.MinMax, extremes),
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(never),
            op_types_to_quantize=STATIC,
            extra_options={},
        )
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    return with_unsigned_weights(model) if unsigned(params) else model


def opened(model: Path | onnx.ModelProto) -> ort.InferenceSession:
    """A plain session, for its outputs and not for timing."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def file_outputs(session: ort.InferenceSession, feeds: Iterable[Feed]) -> list[Array]:
    """The first output for each of ``feeds``."""
    return [session.run(None, feed)[0] for feed in feeds]


def output_error(outputs: Iterable[Array], other: ort.InferenceSession, feeds: Iterable[Feed]) -> float:
    """Mean absolute difference of another file's first outputs from these, for the same ``feeds``, as a share of the
    standard deviation of these; infinite where the other gives NaN. Not squared: one example whose activations leave
    their ranges would outweigh the rest.
    """
    error = total = squares = 0.0
    count = 0
    for one, feed in zip(outputs, feeds, strict=True):
        expected, got = one.astype(np.float64), other.run(None, feed)[0].astype(np.float64)
        error += float(np.abs(got - expected).sum())
        total, squares, count = total + float(expected.sum()), squares + float((expected**2).sum()), count + got.size
    deviation = math.sqrt(max(squares / count - (total / count) ** 2, 0)) or 1.0
    return error / count / deviation if math.isfinite(error) else math.inf

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


def file_outputs(session: ort.InferenceSession, feeds: Iterable[Feed]) -> list[list[Array]]:
    """For each of ``feeds`` the outputs of floating point, or, where there is none of these, all of them."""
    kept = [number for number, output in enumerate(session.get_outputs()) if "float" in output.type]
    calls = [session.run(None, feed) for feed in feeds]
    return [[call[number] for number in kept] or list(call) for call in calls]


def output_error(outputs: Iterable[Sequence[Array]], other: ort.InferenceSession, feeds: Iterable[Feed]) -> float:
    """How far other outputs are from these, for the same ``feeds``: of each output the mean absolute difference
    as a share of its standard deviation here, and the mean of that over the outputs; infinite where the other gives
    NaN. Not squared: one example whose activations leave their ranges would outweigh the rest.
    """
    sums: list[list[float]] = []  # of each output: differences, values, their squares, how many
    for one, feed in zip(outputs, feeds, strict=True):
        sums = sums or [[0.0, 0.0, 0.0, 0.0] for _ in one]
        for own, expected, got in zip(sums, one, file_outputs(other, [feed])[0], strict=True):
            values = expected.astype(np.float64)
            own[0] += float(np.abs(got.astype(np.float64) - values).sum())
            own[1] += float(values.sum())
            own[2] += float((values**2).sum())
            own[3] += values.size
    errors = [error / count / _deviation(total, squares, count) for error, total, squares, count in sums]
    return sum(errors) / len(errors) if all(map(math.isfinite, errors)) else math.inf


def _deviation(total: float, squares: float, count: float) -> float:
    return math.sqrt(max(squares / count - (total / count) ** 2, 0)) or 1.0

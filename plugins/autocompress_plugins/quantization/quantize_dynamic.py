"""Dynamic int8 quantization: int8 weights, activation ranges computed at each call.

Changes: the ONNX file; LSTMs become DynamicQuantizeLSTM. Needs: matrix products with constant weights, or LSTMs,
whose weights are folded constants. Convolutions are left in float: their dynamic int8 operator is slower than float
(0.43 to 4.52 ms on a depthwise-separable CNN). Unsigned weights, a variant where sums of products are cut off, are
made of signed ones: the tools give an LSTM signed weights whatever they are told.
Follows: ONNX Runtime's documentation, "Quantize ONNX models": dynamic for recurrent nets and transformers, static
for CNNs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from autocompress.plugin.contract import Context, GraphStrategy, Params, Strategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.quantization.kept_nodes import kept_nodes
from autocompress_plugins.quantization.left_in_float import WITHOUT_DYNAMIC_FORM, left_in_float
from autocompress_plugins.quantization.ort_quantization import (
    has_constant_weights,
    reduced,
    unsigned,
    weight_kinds,
    without_advice,
)
from autocompress_plugins.unsigned_weights import with_unsigned_weights

autocompress_api = 2

DYNAMIC_OPERATORS = {"LSTM", "MatMul", "Gemm"}
WITHOUT_KERNEL = {"GRU", "RNN"}


class QuantizeDynamic(GraphStrategy):
    name = "quantize_dynamic"
    summary = "int8 weights, activations quantized at each call (LSTM, matrix products)"
    provides = frozenset({"quantized"})
    excludes = frozenset({"quantized"})
    precision = "int8"

    def refuses(self, context: Context) -> str | None:
        if has_constant_weights(context.reference, DYNAMIC_OPERATORS):
            return None
        others = [node for node in onnx.load(str(context.reference)).graph.node if node.op_type in WITHOUT_KERNEL]
        named = ", ".join(f"{node.name or 'a layer'} ({node.op_type})" for node in others[:3])
        reason = "no LSTM and no matrix product with constant weights"
        return f"{reason}; there is no int8 kernel for {named}" if others else reason

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return left_in_float(context.model, WITHOUT_DYNAMIC_FORM)

    def variants(self, context: Context) -> Sequence[Params]:
        return [{"weights": "QInt8", **kind} for kind in weight_kinds(context)]

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        kept = kept_nodes(source, context)
        kept += [f"{name}_MatMul" for name in kept]  # as the tools call what they make of a Gemm
        with without_advice():
            quantize_dynamic(
                str(source),
                str(target),
                op_types_to_quantize=sorted(DYNAMIC_OPERATORS),
                per_channel=True,
                reduce_range=reduced(params),
                weight_type=QuantType.QInt8,
                nodes_to_exclude=kept,
            )
        if unsigned(params):
            onnx.save(with_unsigned_weights(onnx.load(str(target))), str(target))


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [QuantizeDynamic()]

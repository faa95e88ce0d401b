"""Static int8 quantization: weights per channel, activations with ranges calibrated on training data, as QDQ nodes.

Changes: the ONNX file; integer kernels where the runtime has them. Needs: convolutions or matrix products with
constant weights. Follows: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018.

Which activation type is faster depends on the kernels of the target (QInt8 made a residual network slower than float
where QUInt8 made it 2.8 times faster), so both are variants. How ranges are calibrated costs no latency, so one rule
is chosen, the one that keeps the reference's outputs best. Where even that one changes them much, and it helps to
leave the most sensitive sections of the graph in float, that is a third variant.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from autocompress.plugin.contract import Context, GraphStrategy, Params, Strategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.quantization.calibration import RULES, Histogram, Range, observed
from autocompress_plugins.quantization.ort_quantization import (
    CALIBRATION_EXAMPLES,
    STATIC,
    has_constant_weights,
    named,
    opened,
    output_error,
    quantized,
)

WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
ACTIVATIONS = ("QUInt8", "QInt8")
COMPARED_EXAMPLES = 32  # whose outputs are compared with those of the float file
SECTIONS = 12  # of about as many consecutive nodes; more would take longer to compare, and leave out too little each
LEFT_IN_FLOAT = 2
HARMFUL = 0.03  # an error of the outputs, as a share of their deviation, that may cost accuracy
CLEARLY = 0.8  # a change for the better leaves at most this share of the error
SAFEST = "minmax"  # cuts off nothing, whatever the candidates' activations will be


class QuantizeStatic(GraphStrategy):
    name = "quantize_static"
    summary = "int8 weights and activations, calibrated on training data"
    provides = frozenset({"quantized"})
    excludes = frozenset({"quantized"})
    precision = "int8"

    def __init__(self) -> None:
        self._last: tuple[object, dict[str, Histogram]] | None = None

    def refuses(self, context: Context) -> str | None:
        if has_constant_weights(context.reference, WEIGHTED):
            return None
        return "no convolution or matrix product with constant weights (recurrent layers have no static int8 form)"

    def variants(self, context: Context) -> Sequence[Params]:
        errors = {rule: self._error({"activations": ACTIVATIONS[0], "calibration": rule}, context) for rule in RULES}
        best = min(errors, key=errors.__getitem__)
        rule = best if errors[best] < CLEARLY * errors[SAFEST] else SAFEST
        plain = [{"activations": activations, "calibration": rule} for activations in ACTIVATIONS]
        if errors[rule] < HARMFUL:
            return plain
        mixed: Params = {**plain[0], "float_sections": LEFT_IN_FLOAT}
        return [*plain, mixed] if self._error(mixed, context) < CLEARLY * errors[rule] else plain

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        onnx.save(self._quantized(source, params, context), str(target))

    def _error(self, params: Params, context: Context) -> float:
        """How much these parameters change the reference's outputs."""
        model = self._quantized(context.reference, params, context)
        return output_error(opened(context.reference), opened(model), context.feeds(COMPARED_EXAMPLES))

    def _quantized(self, source: Path, params: Params, context: Context) -> onnx.ModelProto:
        rule, activations = RULES[str(params["calibration"])], str(params["activations"])
        ranges = {name: rule(histogram) for name, histogram in self._observed(source, context).items()}
        left = int(params.get("float_sections", 0))
        sensitive = _by_sensitivity(source, ranges, activations, context)[:left] if left else []
        return quantized(source, ranges, activations, never=[name for section in sensitive for name in section])

    def _observed(self, source: Path, context: Context) -> dict[str, Histogram]:
        """Kept for the next variant of the same file, as long as it is given the same examples."""
        key = (hashlib.sha256(source.read_bytes()).digest(), context.feeds)
        if self._last is None or self._last[0] != key:
            self._last = key, observed(source, context.feeds(CALIBRATION_EXAMPLES))
        return self._last[1]


def _by_sensitivity(source: Path, ranges: Mapping[str, Range], activations: str, context: Context) -> list[list[str]]:
    """The nodes in sections, by the error of the outputs when that section alone is quantized, largest first."""
    reference = opened(source)
    nodes = [node.name for node in named(source).graph.node if node.op_type in STATIC]
    sections = [part.tolist() for part in np.array_split(nodes, min(SECTIONS, len(nodes)))]

    def error(section: list[str]) -> float:
        alone = opened(quantized(source, ranges, activations, only=section))
        return output_error(reference, alone, context.feeds(COMPARED_EXAMPLES))

    return sorted(sections, key=error, reverse=True)


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [QuantizeStatic()]

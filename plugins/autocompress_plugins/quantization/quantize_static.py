"""Static int8 quantization: weights per channel, activations with ranges calibrated on training data, as QDQ nodes.

Changes: the ONNX file; integer kernels where the runtime has them. Needs: convolutions or matrix products with
constant weights. Follows: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018.

Which activation type is faster depends on the kernels of the target (QInt8 made a residual network slower than float
where QUInt8 made it 2.8 times faster), so both are variants. Where the target cuts off sums of products, unsigned
activations come with weights of seven bits and with unsigned ones (``weight_kinds``), at the same ranges. How ranges
are calibrated costs no latency, so one rule is chosen: the extremes, or where these change the reference's outputs
much, the one that keeps them best. Where even that one changes them much, and it helps to leave the most sensitive
sections of the graph in float, that is one more variant. Which sections those are is found out once, on the reference,
and is part of the variant: whatever its weights and the examples, a structure has one latency. Before anything is
scored none of this is asked, and the rule is the extremes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx

from autocompress.plugin.contract import Context, GraphStrategy, Params, Strategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.quantization.calibration import RULES, Histogram, Range, observed
from autocompress_plugins.quantization.kept_nodes import kept_nodes
from autocompress_plugins.quantization.left_in_float import WITHOUT_STATIC_FORM, left_in_float
from autocompress_plugins.quantization.ort_quantization import (
    CALIBRATION_EXAMPLES,
    STATIC,
    STATIC_OPERATORS,
    file_outputs,
    has_constant_weights,
    named,
    opened,
    output_error,
    quantized,
    weight_kinds,
)

autocompress_api = 2

ACTIVATIONS = ("QUInt8", "QInt8")
COMPARED_EXAMPLES = 32  # whose outputs are compared with those of the float file
SECTIONS = 12  # of the graph; more would take longer to compare, and leave out too little each
LEFT_IN_FLOAT = 2
HARMFUL = 0.03  # an error of the outputs, as a share of their deviation, that may cost accuracy
CLEARLY_CLOSER = 0.8  # a change for the better leaves at most this share of the error
SAFEST = "minmax"  # cuts off nothing, whatever the candidates' activations will be


class QuantizeStatic(GraphStrategy):
    name = "quantize_static"
    summary = "int8 weights and activations, calibrated on training data"
    provides = frozenset({"quantized"})
    excludes = frozenset({"quantized"})
    precision = "int8"

    def __init__(self, rules: Mapping[str, Callable[[Histogram], Range]] = RULES) -> None:
        self._rules = rules
        self._last: tuple[object, dict[str, Histogram]] | None = None

    def refuses(self, context: Context) -> str | None:
        if has_constant_weights(context.reference, STATIC_OPERATORS):
            return None
        return "no convolution or matrix product with constant weights (recurrent layers have no static int8 form)"

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return left_in_float(context.model, WITHOUT_STATIC_FORM)

    def variants(self, context: Context) -> Sequence[Params]:
        kinds = weight_kinds(context)
        if not context.scored:
            return _plain(SAFEST, kinds)
        feeds = list(context.feeds(COMPARED_EXAMPLES))
        expected = file_outputs(opened(context.reference), feeds)

        def error(model: onnx.ModelProto) -> float:
            return output_error(expected, opened(model), feeds)

        def error_by(rule: str) -> float:
            return error(self._quantized(context.reference, _plain(rule, kinds)[0], context))

        errors = {SAFEST: error_by(SAFEST)}
        if errors[SAFEST] >= HARMFUL:
            errors |= {rule: error_by(rule) for rule in self._rules if rule != SAFEST}
        best = min(errors, key=errors.__getitem__)
        rule = best if errors[best] < CLEARLY_CLOSER * errors[SAFEST] else SAFEST
        plain = _plain(rule, kinds)
        if errors[rule] < HARMFUL:
            return plain
        mixed: Params = {**plain[0], "float_sections": self._sensitive(plain[0], context, error)}
        harm = error(self._quantized(context.reference, mixed, context))
        return [*plain, mixed] if harm < CLEARLY_CLOSER * errors[rule] else plain

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        onnx.save(self._quantized(source, params, context), str(target))

    def _sensitive(self, params: Params, context: Context, error: Callable[[onnx.ModelProto], float]) -> str:
        """The numbers of the sections that cost the reference's outputs most when they alone are quantized."""
        ranges = self._ranges(context.reference, params, context)

        def alone(section: tuple[str, ...]) -> float:
            return error(quantized(context.reference, ranges, params, only=section))

        sections = _sections(context.reference)
        first = {section: sections.index(section) for section in sections}  # a short graph has some of them twice
        worst = sorted(first, key=alone, reverse=True)[:LEFT_IN_FLOAT]
        return ",".join(str(number) for number in sorted(first[section] for section in worst))

    def _quantized(self, source: Path, params: Params, context: Context) -> onnx.ModelProto:
        numbers = [int(number) for number in str(params.get("float_sections", "")).split(",") if number]
        sections = _sections(source) if numbers else []
        left = {name for number in numbers for name in sections[number]}
        left |= set(kept_nodes(source, context))
        return quantized(source, self._ranges(source, params, context), params, never=left)

    def _ranges(self, source: Path, params: Params, context: Context) -> dict[str, Range]:
        rule = self._rules[str(params["calibration"])]
        return {name: rule(histogram) for name, histogram in self._observed(source, context).items()}

    def _observed(self, source: Path, context: Context) -> dict[str, Histogram]:
        """Kept for the next variant of the same file, as long as it is given the same examples."""
        key = (hashlib.sha256(source.read_bytes()).digest(), context.feeds)
        if self._last is None or self._last[0] != key:
            self._last = key, observed(source, context.feeds(CALIBRATION_EXAMPLES))
        return self._last[1]


def _plain(rule: str, kinds: Sequence[Params]) -> list[Params]:
    """Everything quantized: unsigned activations with each kind of weights, signed ones with the first; there are no
    integer kernels for signed activations with unsigned weights.
    """
    types = [("QUInt8", kind) for kind in kinds] + [("QInt8", kinds[0])]
    return [{"activations": activations, "calibration": rule, **kind} for activations, kind in types]


def _sections(source: Path) -> list[tuple[str, ...]]:
    """The names of the nodes that can be quantized, in consecutive parts of equal length. A part holds a node at its
    border whole, so that in a short graph none is empty.
    """
    nodes = [node.name for node in named(source).graph.node if node.op_type in STATIC]
    ends = [(number * len(nodes) // SECTIONS, -(-(number + 1) * len(nodes) // SECTIONS)) for number in range(SECTIONS)]
    return [tuple(nodes[first:last]) for first, last in ends]


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [QuantizeStatic()]

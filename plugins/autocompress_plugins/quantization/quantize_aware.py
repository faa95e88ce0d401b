"""Quantization-aware training: the model is trained with int8 rounding in the loop, and what was learned of the ranges
is written into the ONNX file as QDQ nodes.

Changes: the weights, then the ONNX file; weights are stored and exported in float. Needs: convolutions or linear
layers. Follows: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; Bhalgat et al., "LSQ+: Improving low-bit quantization through learnable offsets and better
initialization", CVPR Workshops 2020. Tensors that enter no such layer (additions, outputs) are calibrated on training
data, and so are all of them before any training: their ranges do not change what a call costs. So is what enters a
layer that the batch norm in front of it is part of in the file: what the norm gave is no tensor there. Where any other
layer's input is not recognised in the file, the candidate fails rather than be calibrated without a word.

Where the target cuts off sums of products, the training rounds weights to seven bits, and two files are written of it:
with these, and with unsigned weights of eight bits. On the digits demo's data (three seeds, six epochs) both kinds
scored alike after rounding to either: 97.4 and 97.3 % after seven bits, 97.3 and 97.4 % after eight, at a standard
error of 0.4.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import (
    NORM_BEFORE,
    Context,
    GraphStrategy,
    Parameter,
    Params,
    Strategy,
    TrainHook,
    TrainingStrategy,
)
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.quantization.activation_values import (
    Signature,
    examples,
    file_tensors,
    layer_inputs,
    recognised,
)
from autocompress_plugins.quantization.calibration import Range, extremes, observed
from autocompress_plugins.quantization.fake_quantization import INT7, INT8, UINT8, FakeQuantization
from autocompress_plugins.quantization.kept_nodes import kept_nodes
from autocompress_plugins.quantization.left_in_float import WITHOUT_STATIC_FORM, left_in_float
from autocompress_plugins.quantization.ort_quantization import (
    CALIBRATION_EXAMPLES,
    STATIC_OPERATORS,
    quantized,
    weight_kinds,
)

autocompress_api = 2

# Their outputs are quantized as their inputs are; a range that fits the output loses nothing of it at the input.
RANGE_KEEPING = {"MaxPool", "Pad"}


class QuantizeAware(TrainingStrategy, GraphStrategy):
    name = "quantize_aware"
    summary = "train with int8 rounding and learned ranges, then quantize with them"
    provides = frozenset({"quantized"})
    excludes = frozenset({"quantized"})
    precision = "int8"

    def parameters(self, context: Context) -> Sequence[Parameter]:
        return (Parameter("starts_at", (0.0, 0.5), 0.0),)

    def refuses(self, context: Context) -> str | None:
        if layer_inputs(context.model, examples(context)):
            return None
        modules = context.model.named_modules()
        own = [f"{name} ({type(m).__name__})" for name, m in modules if [*m.parameters(recurse=False)]]
        return f"no convolution or linear layer is called, only {', '.join(own[:3]) or 'layers without weights'}"

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return left_in_float(context.model, WITHOUT_STATIC_FORM)

    def hook(self, params: Params, context: Context) -> TrainHook:
        largest = INT7 if context.runtime.saturates(context.profile) else INT8
        return FakeQuantization(float(params["starts_at"]), examples(context), largest)

    def variants(self, context: Context) -> Sequence[Params]:
        return [{"activations": "QUInt8", **kind} for kind in weight_kinds(context)]

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        calibrated = observed(source, context.feeds(CALIBRATION_EXAMPLES))
        ranges = {name: extremes(histogram) for name, histogram in calibrated.items()}
        ranges |= _learned_ranges(source, context.learned.get(self.name, {}), context)
        onnx.save(quantized(source, ranges, params, never=kept_nodes(source, context)), str(target))


def _learned_ranges(path: Path, learned: Mapping[str, Any], context: Context) -> dict[str, Range]:
    """For every tensor of the file that has the values of a layer's input: what uint8 holds at the learned scale.

    Raises CandidateFailed when a layer is in the file and its input is not recognised there.
    """
    if not learned:
        return {}
    graph, tensors = onnx.load(str(path)).graph, file_tensors(path, examples(context))
    inputs = {layer: own["inputs"] for layer, own in learned.items()}
    layers = {name: recognised(values, inputs) for name, values in tensors.items()}
    missing = _missing(graph, learned, tensors, layers) if any(layers.values()) else list(learned)
    if missing:
        raise CandidateFailed(
            f"what enters {', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''} is not recognised in the "
            "exported file, so the ranges that were learned there cannot be written"
        )
    for node in reversed(graph.node):
        if node.op_type in RANGE_KEEPING and layers.get(node.input[0]) is None:
            layers[node.input[0]] = layers.get(node.output[0])
    return {tensor: _range(learned[layer]) for tensor, layer in layers.items() if layer}


def _missing(
    graph: onnx.GraphProto,
    learned: Mapping[str, Any],
    tensors: Mapping[str, Signature],
    layers: Mapping[str, str | None],
) -> list[str]:
    """Layers with an input that no tensor of the file has, while a product with weights of the layer's shape, and no
    norm in front among these, reads a tensor of which nothing was learned. Without such a product the layer is not in
    the file: what it gives does not reach the output, or is always the same. An input that is one number over and over
    has no signature to look for, and loses nothing by being calibrated.
    """
    shapes = {tensor.name: _shape(tensor.dims) for tensor in graph.initializer}
    plain = (node for node in graph.node if node.op_type in STATIC_OPERATORS)
    products = [node for node in plain if not node.input[1].startswith(NORM_BEFORE)]
    unknown = [shapes.get(node.input[1]) for node in products if layers.get(node.input[0]) is None]
    return [
        layer
        for layer, own in learned.items()
        if _shape(own["weight"]) in unknown
        and not all(recognised(call, {"": tensors.values()}) is not None for call in own["inputs"] if call)
    ]


def _shape(dims: Iterable[int]) -> list[int]:
    """What an exporter leaves of a weight's shape: it may transpose it, and add axes of one."""
    return sorted(size for size in dims if size > 1)


def _range(learned: Mapping[str, Any]) -> Range:
    low, high = -learned["zero_point"], UINT8 - learned["zero_point"]
    return low * learned["scale"], high * learned["scale"]


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [QuantizeAware()]

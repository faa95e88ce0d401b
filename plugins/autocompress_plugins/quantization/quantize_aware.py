"""Quantization-aware training: the model is trained with int8 rounding in the loop, and what was learned of the ranges
is written into the ONNX file as QDQ nodes.

Changes: the weights, then the ONNX file; weights are stored and exported in float. Needs: convolutions or linear
layers. Follows: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018; Bhalgat et al., "LSQ+: Improving low-bit quantization through learnable offsets and better
initialization", CVPR Workshops 2020. Tensors that enter no such layer (additions, outputs) are calibrated on training
data, and so are all of them before any training: their ranges do not change what a call costs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import (
    Context,
    GraphStrategy,
    Parameter,
    Params,
    Strategy,
    TrainHook,
    TrainingStrategy,
)
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.quantization.activation_values import example, file_tensors, layer_inputs, recognised
from autocompress_plugins.quantization.calibration import Range, extremes, observed
from autocompress_plugins.quantization.fake_quantization import UINT8, FakeQuantization
from autocompress_plugins.quantization.ort_quantization import CALIBRATION_EXAMPLES, quantized

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
        if layer_inputs(context.model, example(context)):
            return None
        own = [f"{name} ({type(m).__name__})" for name, m in context.model.named_modules() if m._parameters]
        return f"no convolution or linear layer is called, only {', '.join(own[:3]) or 'layers without weights'}"

    def hook(self, params: Params, context: Context) -> TrainHook:
        return FakeQuantization(float(params["starts_at"]), example(context))

    def variants(self, context: Context) -> Sequence[Params]:
        return ({"activations": "QUInt8"},)

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        calibrated = observed(source, context.feeds(CALIBRATION_EXAMPLES))
        ranges = {name: extremes(histogram) for name, histogram in calibrated.items()}
        ranges |= _learned_ranges(source, context.learned.get(self.name, {}), context)
        onnx.save(quantized(source, ranges, str(params["activations"])), str(target))


def _learned_ranges(path: Path, learned: Mapping[str, Any], context: Context) -> dict[str, Range]:
    """For every tensor of the file that has the values of a layer's input: what uint8 holds at the learned scale."""
    inputs = {layer: own["inputs"] for layer, own in learned.items()}
    layers = {name: recognised(values, inputs) for name, values in file_tensors(path, example(context)).items()}
    for node in reversed(onnx.load(str(path)).graph.node):
        if node.op_type in RANGE_KEEPING and layers.get(node.input[0]) is None:
            layers[node.input[0]] = layers.get(node.output[0])
    found = {tensor: _range(learned[layer]) for tensor, layer in layers.items() if layer}
    if learned and not found:
        raise CandidateFailed("the tensors whose ranges were learned are not recognised in the exported file")
    return found


def _range(learned: Mapping[str, Any]) -> Range:
    low, high = -learned["zero_point"], UINT8 - learned["zero_point"]
    return low * learned["scale"], high * learned["scale"]


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [QuantizeAware()]

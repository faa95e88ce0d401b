"""Half precision: the whole graph in float16, between inputs and outputs that stay float32.

Changes: the ONNX file, half the size; faster where the target computes in float16. Needs: float32 weights.
Follows: Micikevicius et al., "Mixed Precision Training", ICLR 2018, for what float16 holds; conversion by the tool that
ONNX Runtime ships, which leaves operators without a float16 form in float32 and cuts weights beyond 65504.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from autocompress.plugin.contract import Context, GraphStrategy, Params, Strategy
from autocompress.plugin.hooks import hookimpl

autocompress_api = 2


class Float16(GraphStrategy):
    name = "float16"
    summary = "half precision, half the size"
    provides = frozenset({"quantized"})
    excludes = frozenset({"quantized"})
    precision = "float16"

    def refuses(self, context: Context) -> str | None:
        weights = onnx.load(str(context.reference)).graph.initializer
        if any(tensor.data_type == onnx.TensorProto.FLOAT for tensor in weights):
            return None
        return "the model has no float32 weights"

    def size_only(self, context: Context) -> str | None:
        if "float16" in context.runtime.faster_with(context.profile):
            return None
        return f"{context.runtime.name} is no faster in float16 than in float32: only the file is half the size"

    def variants(self, context: Context) -> Sequence[Params]:
        return ({},)

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        model = ONNXModel(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True))
        model.topological_sort()  # the converter appends its casts
        onnx.save(model.model, str(target))


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [Float16()]

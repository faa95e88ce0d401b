"""Static int8 quantization: weights per channel, activations with ranges calibrated on training data, as QDQ nodes.

Changes: the ONNX file; integer kernels where the runtime has them. Needs: convolutions or matrix products with
constant weights. Follows: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018. Which activation type is faster depends on the kernels of the target
(QInt8 made a residual network slower than float where QUInt8 made it 2.8 times faster), so both are variants.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from autocompress.plugin.contract import Context, Feed, GraphStrategy, Params, Strategy
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.quantization.ort_quantization import has_constant_weights, without_advice

CALIBRATION_EXAMPLES = 256
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Streams the feeds: calibration never holds more than one."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


class QuantizeStatic(GraphStrategy):
    name = "quantize_static"
    summary = "int8 weights and activations, calibrated on training data"
    provides = frozenset({"quantized"})
    excludes = frozenset({"quantized"})
    precision = "int8"

    def refuses(self, context: Context) -> str | None:
        if has_constant_weights(context.reference, WEIGHTED):
            return None
        return "no convolution or matrix product with constant weights (recurrent layers have no static int8 form)"

    def variants(self, context: Context) -> Sequence[Params]:
        return ({"activations": "QUInt8"}, {"activations": "QInt8"})

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        with without_advice():
            quantize_static(
                str(source),
                str(target),
                Reader(context.feeds(CALIBRATION_EXAMPLES)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType[str(params["activations"])],
                calibrate_method=CalibrationMethod.MinMax,
            )


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [QuantizeStatic()]

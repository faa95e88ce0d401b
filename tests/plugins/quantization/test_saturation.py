"""Whatever the processor, int8 files compute what their weights stand for: of seven bits where sums saturate."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from autocompress.plugin.contract import Context, GraphStrategy, Runtime
from autocompress_plugins.quantization.quantize_aware import QuantizeAware
from autocompress_plugins.quantization.quantize_dynamic import QuantizeDynamic
from autocompress_plugins.quantization.quantize_static import QuantizeStatic
from autocompress_plugins.quantization.quantize_weights import QuantizeWeights

MakeContext = Callable[..., Context]
INPUTS = torch.ones(4, 16, 6, 6)


def equal(layer: nn.Module) -> nn.Module:
    """With weights of which none is larger than another."""
    for weight in layer.parameters():
        nn.init.ones_(weight)
    return layer


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), equal(nn.Linear(16 * 36, 8, bias=False)))


def convolution() -> nn.Module:
    return equal(nn.Conv2d(16, 8, 3, bias=False))


def rewritten(strategy: GraphStrategy, context: Context) -> list[Path]:
    """A file for each variant."""
    paths = []
    for number, params in enumerate(strategy.variants(context)):
        paths.append(context.reference.with_name(f"{strategy.name}-{number}.onnx"))
        strategy.apply(context.reference, paths[-1], params, context)
    assert paths
    return paths


@pytest.mark.parametrize(
    ("strategy", "model"),
    [
        (QuantizeStatic(), linear),
        (QuantizeStatic(), convolution),
        (QuantizeAware(), linear),
        (QuantizeAware(), convolution),
        (QuantizeDynamic(), linear),
        (QuantizeWeights(), linear),
    ],
)
def test_no_sum_of_products_is_cut_off(
    strategy: GraphStrategy, model: Callable[[], nn.Module], graph_context: MakeContext, outputs: Any
) -> None:
    context = graph_context(model(), INPUTS)
    expected = outputs(context.reference, INPUTS)
    for path in rewritten(strategy, context):
        assert outputs(path, INPUTS) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("saturates", "largest"), [(False, 127), (True, 64)])
@pytest.mark.parametrize("strategy", [QuantizeStatic(), QuantizeAware(), QuantizeDynamic()])
def test_weights_have_seven_bits_where_sums_saturate(
    strategy: GraphStrategy,
    saturates: bool,
    largest: int,
    graph_context: MakeContext,
    recurrent: type[nn.Module],
    noise: Callable[..., Tensor],
    declared: Callable[[bool], Runtime],
) -> None:
    context = replace(graph_context(recurrent(nn.LSTM, classes=5), noise(8, 9, 8)), runtime=declared(saturates))
    for path in rewritten(strategy, context):
        tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer]
        found = {np.abs(tensor.astype(int)).max() for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim > 1}
        assert found - {0} == {largest}, "but for zero points"

"""Static int8: the file ONNX Runtime's own tools would write, a rule of calibration chosen by error, sensitive sections
left in float.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import Tensor, nn

from autocompress.plugin.contract import Array, Context, Params, Runtime
from autocompress.testing import tasks
from autocompress_plugins.quantization.calibration import RULES, Histogram, Range
from autocompress_plugins.quantization.ort_quantization import weight_kinds
from autocompress_plugins.quantization.quantize_static import QuantizeStatic

MakeContext = Callable[..., Context]
PLAIN: Params = {"activations": "QUInt8", "calibration": "minmax"}
MIXED: Params = {**PLAIN, "float_sections": "0,11"}


def here(context: Context, params: Params = PLAIN) -> Params:
    """A variant with weights whose products this machine sums exactly, unless it says what they are."""
    return {**weight_kinds(context)[0], **params}


def rewritten(context: Context, params: Params = PLAIN, strategy: QuantizeStatic | None = None) -> Path:
    target = context.reference.with_name("static.onnx")
    (strategy or QuantizeStatic()).apply(context.reference, target, here(context, params), context)
    return target


def constants(path: Path) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}


def in_int8(path: Path) -> dict[str, bool]:
    """Of every convolution and product: whether it reads an int8 weight."""
    graph = onnx.load(str(path)).graph
    quantized = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.INT8}
    made_of = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    return {node.name: made_of.get(node.input[1]) in quantized for node in weighted}


@pytest.fixture
def tiny(graph_context: MakeContext, tiny_model: nn.Module, examples: Callable[[int, int], Any]) -> Context:
    return graph_context(tiny_model, examples(64, 1)[0])


@pytest.fixture
def narrow(graph_context: MakeContext, noise: Callable[..., Tensor]) -> Context:
    """Of the first layer's channels one is 100 times as large as the others, and matters as much as any."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False)
    others = [layer for _ in range(6) for layer in (nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False))]
    model = nn.Sequential(first, second, *others, nn.Flatten(), nn.Linear(8 * 36, 6, bias=False))
    with torch.no_grad():
        for weight in model.parameters():
            nn.init.kaiming_normal_(weight)
        first.weight[0] *= 100
        second.weight[:, 0] /= 100
    return graph_context(model, noise(48, 1, 6, 6))


class Reader(CalibrationDataReader):
    def __init__(self, feeds: Iterator[Any]) -> None:
        self.feeds = feeds

    def get_next(self) -> Any:
        return next(self.feeds, None)


@pytest.mark.parametrize("reduce_range", [False, True])
def test_with_the_extremes_it_is_the_file_the_tools_write(reduce_range: bool, tiny: Context, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.onnx"
    quantize_static(
        str(tiny.reference),
        str(theirs),
        Reader(tiny.feeds(64)),
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=QuantType.QUInt8,
    )
    own, expected = constants(rewritten(tiny, {**PLAIN, "reduce_range": reduce_range})), constants(theirs)
    assert own.keys() == expected.keys()
    assert own
    assert all(np.allclose(own[name], expected[name], rtol=1e-6, atol=0) for name in own)


def test_every_layer_has_int8_weights_with_a_scale_for_each_channel(tiny: Context) -> None:
    target = rewritten(tiny)
    assert list(in_int8(target).values()) == [True] * 3
    graph, values = onnx.load(str(target)).graph, constants(target)
    scales = [node.input[1] for node in graph.node if values.get(node.input[0], np.empty(0)).dtype == np.int8]
    assert sorted(values[name].size for name in scales) == [4, 8, 16]


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("rule", ["minmax", "percentile", "entropy"])
def test_outputs_stay_near_for_either_type_and_every_rule(
    kind: str, rule: str, tiny: Context, outputs: Any, distance: Callable[..., float]
) -> None:
    inputs = torch.from_numpy(np.concatenate([feed["input"] for feed in tiny.feeds(64)]))
    target = rewritten(tiny, {"activations": kind, "calibration": rule})
    assert 0 < distance(outputs(target, inputs), outputs(tiny.reference, inputs)) < 0.1
    zero_points = {array.dtype for name, array in constants(target).items() if name.startswith("input_zero_point")}
    assert zero_points == {np.dtype(np.uint8 if kind == "QUInt8" else np.int8)}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_transformer_with_products_of_activations(
    exporter: str, graph_context: MakeContext, outputs: Any, distance: Callable[..., float]
) -> None:
    task = tasks.transformer()
    inputs = task.train[0][:64]
    context = graph_context(task.model, inputs, exporter)
    target = rewritten(context)
    assert sum(in_int8(target).values()) == 9, "four in each block, and the head"
    assert 0 < distance(outputs(target, inputs), outputs(context.reference, inputs)) < 0.1


def test_layers_after_a_recurrent_one_are_quantized_and_it_is_not(
    graph_context: MakeContext, recurrent: type[nn.Module], noise: Callable[..., Tensor]
) -> None:
    target = rewritten(graph_context(recurrent(nn.LSTM, classes=5), noise(8, 9, 8)))
    assert list(in_int8(target).values()) == [True]
    assert [node.op_type for node in onnx.load(str(target)).graph.node].count("LSTM") == 2


def test_transposed_convolution(graph_context: MakeContext, noise: Callable[..., Tensor], outputs: Any) -> None:
    inputs = noise(8, 3, 5, 5)
    context = graph_context(nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.ReLU(), nn.Conv2d(4, 2, 3)), inputs)
    target = rewritten(context)
    assert list(in_int8(target).values()) == [True, True]
    assert outputs(target, inputs) == pytest.approx(outputs(context.reference, inputs), abs=0.05)


def test_nothing_to_quantize_is_refused_and_left_alone(
    graph_context: MakeContext, recurrent: type[nn.Module], noise: Callable[..., Tensor]
) -> None:
    context = graph_context(recurrent(nn.LSTM), noise(2, 9, 8))
    before = context.reference.read_bytes()
    reason = QuantizeStatic().refuses(context)
    assert reason is not None
    assert "recurrent" in reason
    assert context.reference.read_bytes() == before


# -- which variants ----------------------------------------------------------------------------------------------------


def test_both_activation_types_with_the_safest_rule_where_none_does_better(
    tiny: Context, declared: Callable[[bool], Runtime]
) -> None:
    exact = replace(tiny, runtime=declared(False))
    assert QuantizeStatic().variants(exact) == [PLAIN, {**PLAIN, "activations": "QInt8"}]


def test_where_sums_are_cut_off_two_kinds_of_weights_go_with_unsigned_activations(
    tiny: Context, declared: Callable[[bool], Runtime]
) -> None:
    seven: Params = {**PLAIN, "reduce_range": True}
    expected = [seven, {**PLAIN, "weights": "QUInt8"}, {**seven, "activations": "QInt8"}]
    saturating = replace(tiny, runtime=declared(True))
    assert QuantizeStatic().variants(saturating) == expected
    assert QuantizeStatic().variants(saturating.for_timing()) == expected


def test_no_other_rule_is_tried_where_the_extremes_do_no_harm(tiny: Context) -> None:
    def untried(histogram: Histogram) -> Range:
        raise AssertionError("there is nothing to gain")

    rules = {name: rule if name == "minmax" else untried for name, rule in RULES.items()}
    assert {params["calibration"] for params in QuantizeStatic(rules).variants(tiny)} == {"minmax"}


def test_before_anything_is_scored_no_rule_is_compared_with_another(narrow: Context) -> None:
    timed, scored = (QuantizeStatic().variants(context) for context in (narrow.for_timing(), narrow))
    assert {params["calibration"] for params in timed} == {"minmax"}
    assert not any("float_sections" in params for params in timed)
    assert len(scored) == len(timed) + 1


def test_another_rule_is_chosen_where_an_outlier_wastes_the_range(
    graph_context: MakeContext, tiny_model: nn.Module, examples: Callable[[int, int], Any], outputs: Any
) -> None:
    inputs = examples(128, 1)[0]
    inputs[100, 0, 3, 3] = 100
    context = graph_context(tiny_model, inputs)
    assert {params["calibration"] for params in QuantizeStatic().variants(context)} == {"entropy"}
    usual = examples(64, 2)[0]
    expected = outputs(context.reference, usual)
    errors = {
        rule: np.abs(outputs(rewritten(context, {**PLAIN, "calibration": rule}), usual) - expected).mean()
        for rule in ("minmax", "entropy")
    }
    assert errors["entropy"] < 0.5 * errors["minmax"]


def test_sensitive_sections_are_left_in_float_where_that_helps(
    narrow: Context, outputs: Any, distance: Callable[..., float]
) -> None:
    plain, *_, other, mixed = QuantizeStatic().variants(narrow)
    assert (plain["activations"], other["activations"]) == ("QUInt8", "QInt8")
    assert mixed.keys() - plain.keys() == {"float_sections"}
    inputs = torch.from_numpy(np.concatenate([feed["input"] for feed in narrow.feeds(48)]))
    expected = outputs(narrow.reference, inputs)
    all_int8 = distance(outputs(rewritten(narrow, plain), inputs), expected)
    target = rewritten(narrow, mixed)
    assert distance(outputs(target, inputs), expected) < 0.5 * all_int8
    layers = list(in_int8(target).values())
    assert not any(layers[:2]), "the layers on either side of the wide range"
    assert sum(layers) >= 6


def test_the_same_sections_stay_in_float_whatever_the_weights_and_the_examples(narrow: Context) -> None:
    """In the gate a structure is timed with few examples and untrained weights; afterwards it has to be as fast."""
    mixed = QuantizeStatic().variants(narrow)[-1]
    expected = list(in_int8(rewritten(narrow, mixed)).values())
    assert False in expected
    few = replace(narrow, feeds=lambda count: narrow.feeds(min(count, 4)))
    assert list(in_int8(rewritten(few, mixed)).values()) == expected
    model = onnx.load(str(narrow.reference))
    first, *_, last = (t for t in model.graph.initializer if len(t.dims) > 1)
    for tensor, factor in ((first, 0.01), (last, 100.0)):  # what was sensitive is not any more, and the reverse
        values = numpy_helper.to_array(tensor).copy()
        values[0] *= factor
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, str(narrow.reference))
    assert list(in_int8(rewritten(narrow, mixed)).values()) == expected


def test_a_graph_of_fewer_nodes_than_sections_has_sections_too(
    graph_context: MakeContext, noise: Callable[..., Tensor]
) -> None:
    context = graph_context(nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), nn.Conv1d(2, 2, 1)), noise(8, 2, 5))
    for number, expected in ((0, [False, True]), (5, [True, True]), (11, [True, False])):
        target = rewritten(context, {**PLAIN, "float_sections": str(number)})
        assert list(in_int8(target).values()) == expected, number


def test_sections_are_found_in_a_file_without_names(narrow: Context) -> None:
    expected = in_int8(rewritten(narrow, MIXED))
    assert list(expected.values()).count(False) >= 2, "the first and the last"
    model = onnx.load(str(narrow.reference))
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, str(narrow.reference))
    assert list(in_int8(rewritten(narrow, MIXED)).values()) == list(expected.values())


def test_examples_are_read_once_for_all_variants_and_anew_for_others(tiny: Context) -> None:
    read: list[int] = []

    def counted(scale: float) -> Callable[[int], Iterator[Any]]:
        def feeds(count: int) -> Iterator[Any]:
            for feed in tiny.feeds(count):
                read.append(1)
                yield {name: scale * values for name, values in feed.items()}

        return feeds

    def input_scale(path: Path) -> float:
        return float(constants(path)["input_scale"])

    strategy, few = QuantizeStatic(), replace(tiny, feeds=counted(0.1))
    small = input_scale(rewritten(few, PLAIN, strategy))
    assert input_scale(rewritten(few, {**PLAIN, "activations": "QInt8"}, strategy)) == pytest.approx(small)
    assert len(read) == 64
    assert input_scale(rewritten(replace(tiny, feeds=counted(1.0)), PLAIN, strategy)) == pytest.approx(10 * small)

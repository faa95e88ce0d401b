"""What operators are for, and in which of them a file became slower."""

import pytest

from autocompress.operator_kinds import CONVERSIONS, by_kind, kind_of_operator, slower_in, spent_on


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("Conv", "Conv"),
        ("FusedConv", "Conv"),
        ("QLinearConv", "Conv"),
        ("NhwcFusedConv", "Conv"),
        ("ConvInteger", "Conv"),
        ("QGemm", "Gemm"),
        ("MatMulIntegerToFloat", "MatMul"),
        ("DynamicQuantizeLSTM", "LSTM"),
        ("QLinearAdd", "Add"),
        ("QuantizeLinear", CONVERSIONS),
        ("DequantizeLinear", CONVERSIONS),
        ("Quick", "Quick"),
    ],
)
def test_an_operator_is_of_the_kind_that_it_computes_in_whatever_arithmetic(operator: str, kind: str):
    assert kind_of_operator(operator) == kind


def test_nodes_of_a_kind_add_up_the_most_first():
    found = by_kind([("Relu", 0.1), ("QLinearConv", 0.2), ("FusedConv", 0.3)])
    assert list(found.items()) == [("Conv", pytest.approx(0.5)), ("Relu", 0.1)]


def test_what_became_slower_is_named_and_what_hardly_did_is_not():
    before, after = {"Conv": 1.0, "Relu": 0.1}, {"Conv": 0.9, "Relu": 0.11, CONVERSIONS: 0.4}
    assert slower_in(before, after) == "conversions 0 -> 0.4 ms"
    assert slower_in(before, before) == ""


def test_where_the_time_goes_is_told_beside_what_it_was():
    said = spent_on({"Conv": 1.0, "Gemm": 0.2}, {"Conv": 0.25, "Gemm": 0.1, CONVERSIONS: 0.05})
    assert said == "Conv 0.25 ms (was 1), Gemm 0.1 ms (was 0.2), conversions 0.05 ms (was 0)"

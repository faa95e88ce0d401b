"""Spearman's correlation between the scores of families at two rungs."""

import pytest

from autocompress.explore.standings.rank_correlation import rank_correlation


def test_rank_correlation_of_known_orders():
    before = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    assert rank_correlation(before, {"a": 1, "b": 2, "c": 3, "d": 9}) == pytest.approx(1)
    assert rank_correlation(before, {"a": 4, "b": 3, "c": 2, "d": 1}) == pytest.approx(-1)
    assert rank_correlation(before, {"a": 1, "b": 3, "c": 2, "d": 4}) == pytest.approx(0.8)
    assert rank_correlation(before, {"a": 1, "b": 1, "c": 2, "d": 2, "x": 9}) == pytest.approx(0.8944, abs=1e-4)


def test_rank_correlation_is_unknown_for_few_or_constant_scores():
    assert rank_correlation({"a": 1, "b": 2}, {"a": 1, "b": 2}) is None
    assert rank_correlation({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "x": 3}) is None
    assert rank_correlation({"a": 1, "b": 2, "c": 3}, {"a": 5, "b": 5, "c": 5}) is None

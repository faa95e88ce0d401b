"""Histograms that grow with their values, the ranges read from them, and memory that does not grow with the set."""

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Array, Context, Feed
from autocompress_plugins.quantization import calibration
from autocompress_plugins.quantization.calibration import RULES, Histogram, observed
from autocompress_plugins.quantization.ort_quantization import opened


def histogram(*batches: Array) -> Histogram:
    found = Histogram()
    for batch in batches:
        found.add(batch.astype(np.float32))
    return found


@pytest.fixture
def normal() -> Array:
    return np.random.default_rng(0).standard_normal(200_000)


def test_values_that_come_in_batches_of_growing_size_are_all_counted_where_they_belong(normal: Array) -> None:
    batches = [0.001 * normal[:1000], normal[1000:199_000], 40 * normal[199_000:]]
    found, together = histogram(*batches), np.concatenate(batches)
    assert (found.low, found.high) == pytest.approx((together.min(), together.max()))
    assert found.counts.sum() == len(together)
    for share in (0.05, 0.5, 0.9):
        edge = np.searchsorted(np.cumsum(found.counts) / len(together), share)
        assert found.edges[edge] - 0.1 <= np.quantile(together, share) <= found.edges[edge + 1] + 0.1


def test_extremes_are_kept_and_the_other_rules_cut_off_an_outlier(normal: Array) -> None:
    found = histogram(normal, np.array([100.0]))
    assert RULES["minmax"](found) == pytest.approx((normal.min(), 100))
    for rule in ("percentile", "entropy"):
        low, high = RULES[rule](found)
        assert normal.min() - 0.5 <= low < -2, rule
        assert 2 < high < 20, rule


@pytest.mark.parametrize("rule", RULES)
def test_a_range_never_leaves_the_values(rule: str, normal: Array) -> None:
    for values in (np.maximum(normal, 0), -np.abs(normal), normal[:3], np.zeros(5), np.full(9, 7.0)):
        low, high = RULES[rule](histogram(values))
        assert values.min() - 1e-6 <= low <= high <= values.max() + 1e-6


def test_percentile_keeps_nearly_all_values(normal: Array) -> None:
    low, high = RULES["percentile"](histogram(normal))
    assert 0.9998 <= np.mean((normal >= low) & (normal <= high)) < 1


def test_values_spread_evenly_are_not_cut_off() -> None:
    low, high = RULES["entropy"](histogram(np.linspace(-3, 3, 100_000)))
    assert low < -2.8
    assert high > 2.8


def test_masked_scores_do_not_reach_into_the_range() -> None:
    found = histogram(np.array([-np.inf, 1.0, 2.0]), np.full(4, -np.inf))
    assert RULES["minmax"](found) == (1, 2)


def test_every_float_activation_is_seen(graph_context: Callable[..., Context], tiny_model: nn.Module) -> None:
    inputs = torch.linspace(-1, 3, 5 * 64).reshape(5, 1, 8, 8)
    context = graph_context(tiny_model, inputs)
    found = observed(context.reference, context.feeds(5))
    assert RULES["minmax"](found["input"]) == (-1, 3)
    with torch.no_grad():
        expected = tiny_model(inputs)
    assert RULES["minmax"](found["output"]) == pytest.approx((float(expected.min()), float(expected.max())), rel=1e-4)
    assert sum(h.low == 0 for h in found.values()) >= 2, "two ReLUs"


def test_no_examples_are_a_reason(graph_context: Callable[..., Context], tiny_model: nn.Module) -> None:
    context = graph_context(tiny_model, torch.zeros(1, 1, 8, 8))
    with pytest.raises(CandidateFailed, match="no training examples"):
        observed(context.reference, iter([]))


class Traced:
    """A session whose outputs are in memory that Python counts."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.session = opened(model)
        self.get_outputs = self.session.get_outputs

    def run(self, names: None, feed: Feed) -> list[Array]:
        return [values.copy() for values in self.session.run(names, feed)]


def test_memory_does_not_grow_with_the_number_of_examples(
    graph_context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "opened", Traced)
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
    context = graph_context(model, torch.zeros(1, 1, 48, 48))

    def peak(examples: int) -> int:
        tracemalloc.start()
        observed(context.reference, _noise(examples))
        reached = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return reached

    peak(1)
    one_example = 3 * 16 * 48 * 48 * 4  # bytes of its activations
    assert peak(40) < peak(4) + one_example


def _noise(examples: int) -> Iterator[Feed]:
    generator = np.random.default_rng(0)
    for _ in range(examples):
        yield {"input": generator.standard_normal((1, 1, 48, 48), dtype=np.float32)}

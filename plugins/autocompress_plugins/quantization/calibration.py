"""Ranges of a file's activations, from one pass over training examples.

Every float tensor keeps a histogram of fixed size, so the memory does not grow with the number of examples (the
histogram calibration of ONNX Runtime's tools keeps every activation of the set). From a histogram three rules read a
range: the extremes; the range that holds 99.99 % of the values; the range whose 8-bit form has the least relative
entropy to the values (Migacz, "8-bit Inference with TensorRT", GTC 2017).
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Array, Feed
from autocompress_plugins.quantization.ort_quantization import opened, with_all_outputs

BINS = 2048  # even, and so is its half
LEAST = 1e-6  # reach of an empty histogram
KEPT = 0.9999  # share of the values that the percentile rule keeps
LEVELS = 128  # that the entropy rule compares with
STEP = 16  # bins between two ranges it tries

Counts = npt.NDArray[np.int64]
Range = tuple[float, float]


class Histogram:
    """Counts of one tensor's finite values in equal bins over (-reach, reach). A value beyond doubles the reach, and
    bins are merged in pairs.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.reach = LEAST
        self.counts: Counts = np.zeros(BINS, np.int64)

    def add(self, values: Array) -> None:
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):  # masked attention scores are
            values = values[np.isfinite(values)]
            if not values.size:
                return
            low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        while max(-self.low, self.high) > self.reach:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(pairs, BINS // 4)
            self.reach *= 2
        half = np.float32(BINS / 2)
        bins = (values.ravel() * (half / np.float32(self.reach)) + half).astype(np.int32)
        self.counts += np.bincount(bins.clip(0, BINS - 1), minlength=BINS)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        return np.linspace(-self.reach, self.reach, BINS + 1)

    def within(self, low: float, high: float) -> Range:
        """The part of a range in which there are values."""
        return max(self.low, low), min(self.high, high)


def extremes(histogram: Histogram) -> Range:
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> Range:
    """As many values are cut off above as below."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    first, last = np.searchsorted(share, [(1 - KEPT) / 2, (1 + KEPT) / 2])
    return histogram.within(histogram.edges[first], histogram.edges[last + 1])


def least_entropy(histogram: Histogram) -> Range:
    counts, middle = histogram.counts.astype(np.float64), BINS // 2
    # After a ReLU half of the values are zero, which every range holds: they would drown the rest.
    counts[middle - 1], counts[middle] = counts[middle - 2], counts[middle + 1]
    halves = range(LEVELS // 2, middle + 1, STEP)
    half = min(halves, key=lambda half: _divergence(counts, half))
    return histogram.within(histogram.edges[middle - half], histogram.edges[middle + half])


def _divergence(counts: npt.NDArray[np.float64], half: int) -> float:
    """Relative entropy between the values clipped to ``half`` bins on either side of zero and the same in LEVELS."""
    middle = len(counts) // 2
    inside = counts[middle - half : middle + half]
    clipped = inside.copy()
    clipped[0] += counts[: middle - half].sum()
    clipped[-1] += counts[middle + half :].sum()
    level = np.arange(2 * half) * LEVELS // (2 * half)
    filled = clipped > 0
    sums, bins = np.bincount(level, inside, LEVELS), np.bincount(level, filled, LEVELS)
    coarse = np.where(filled, (sums / bins.clip(1))[level], 0) + LEAST
    p, q = clipped[filled] / clipped.sum(), coarse[filled] / coarse.sum()
    return float((p * np.log(p / q)).sum())


RULES: dict[str, Callable[[Histogram], Range]] = {
    "minmax": extremes,
    "percentile": percentile,
    "entropy": least_entropy,
}


def observed(path: Path, feeds: Iterable[Feed]) -> dict[str, Histogram]:
    """The histogram of every float32 activation of a file, its inputs and outputs included. Raises CandidateFailed
    without any example.
    """
    session = opened(with_all_outputs(path))
    names = [value.name for value in session.get_outputs()]
    found: dict[str, Histogram] = {}
    for feed in feeds:
        for name, values in (*feed.items(), *zip(names, session.run(None, feed), strict=True)):
            if isinstance(values, np.ndarray) and values.dtype == np.float32 and values.size:
                found.setdefault(name, Histogram()).add(values)
    if not found:
        raise CandidateFailed("there are no training examples to calibrate with")
    return {name: histogram for name, histogram in found.items() if histogram.low <= histogram.high}

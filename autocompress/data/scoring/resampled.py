"""Errors that are drawn: the metric of what was kept, again and again of rows of it.

As many rows as there are, drawn with replacement: the bootstrap (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993). Where the metric is too slow for that, of parts of the rows that do not overlap, as large as can be
afforded, whose spread is brought to that of all by the root of their share: subsampling (Politis, Romano and Wolf,
"Subsampling", 1999).
"""

import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from autocompress.arrays import Floats
from autocompress.data.scoring.scorer import Estimate, KeptOutputs, Scorer
from autocompress.evaluation import NORMAL
from autocompress.nested import Nested

RESAMPLES = 200
FEWEST_RESAMPLES = 8  # of which a spread can be told at all; as many parts, where no more can be afforded
RESAMPLING_S = 5.0  # seconds, for all resamples together: a metric that takes longer has fewer of them, or parts
PARTS_S = 1.0  # and for all parts: a slow metric has many files to be compared by


@dataclass(frozen=True)
class Resamples:
    """values: of each resample (first axis) and each of what is compared (second). share: of all rows, in each."""

    values: Floats
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.values)

    def error(self, of: Floats) -> float:
        """Standard error of what was computed of each resample (1-D), for all rows. Where they are few, so much larger
        that as many of them as of a known error hold the true value 19 times in 20 (Student's t).
        """
        few = float(stdtrit(len(of) - 1, 0.975)) / NORMAL
        return float(np.std(of, ddof=1)) * math.sqrt(self.share) * few


class ResampledScorer(Scorer):
    """A scorer whose intervals and errors are of resamples. Where the metric can score none, an error is as large as
    the value itself: nothing is known of it.
    """

    @abstractmethod
    def rows(self, kept: KeptOutputs, targets: Nested) -> int:
        """How many there are to draw from: examples, or blocks of them."""

    @abstractmethod
    def drawn(self, kept: KeptOutputs, targets: Nested, rows: Tensor) -> float:
        """The metric of some rows (1-D int64, with repetitions), higher is better. It may raise."""

    def estimate(self, kept: KeptOutputs, targets: Nested, seed: int) -> Estimate:
        value = self.value(kept, targets)
        if not math.isfinite(value):
            return Estimate(value, value, value)
        found = self._resampled([kept], targets, seed)
        if len(found) < 2:
            return Estimate(value, value - _unknown(value), value + _unknown(value))
        values = found.values[:, 0]
        if found.share == 1.0:
            return Estimate(value, float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5)))
        half = NORMAL * found.error(values)
        return Estimate(value, value - half, value + half)

    def difference(self, one: KeptOutputs, other: KeptOutputs, targets: Nested, seed: int) -> tuple[float, float]:
        values = self.value(one, targets), self.value(other, targets)
        found = self._resampled([one, other], targets, seed)
        error = found.error(found.values[:, 0] - found.values[:, 1]) if len(found) > 1 else max(map(_unknown, values))
        return values[0] - values[1], error

    def _resampled(self, kepts: Sequence[KeptOutputs], targets: Nested, seed: int) -> Resamples:
        """The metric of each of ``kepts`` on the same drawn rows; draws that the metric cannot score are left out."""
        count = self.rows(kepts[0], targets)
        taken_s = len(kepts) * RESAMPLING_S / max(min(self.calls_in(RESAMPLING_S, kept) for kept in kepts), 1e-9)
        size = count
        if FEWEST_RESAMPLES * taken_s > RESAMPLING_S:
            size = max(min(2, count), int(count / FEWEST_RESAMPLES / max(1.0, taken_s / PARTS_S)))
        found = []
        began = time.monotonic()
        for number, rows in enumerate(_draws(count, size, torch.Generator().manual_seed(seed))):
            if number >= FEWEST_RESAMPLES and time.monotonic() - began > RESAMPLING_S:
                break
            try:
                row = [self.drawn(kept, targets, rows) for kept in kepts]
            except Exception:  # the user's metric: a resample of one class has no area under a curve
                continue
            if all(map(math.isfinite, row)):
                found.append(row)
        return Resamples(np.array(found).reshape(-1, len(kepts)), size / count)


def _draws(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Of ``count`` rows so many, each time: with replacement where it is all of them, else such as do not overlap."""
    if size == count:
        for _ in range(RESAMPLES):
            yield torch.randint(count, (count,), generator=generator)
        return
    order = torch.randperm(count, generator=generator)
    for begin in range(0, min(FEWEST_RESAMPLES * size, count - size + 1), size):
        yield order[begin : begin + size]


def _unknown(value: float) -> float:
    """The error of a value of which none can be told."""
    return max(1.0, abs(value))

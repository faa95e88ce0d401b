"""Errors that are drawn: the metric of what was kept, again and again of rows of it drawn with replacement.

The bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.
"""

import math
import time
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from autocompress.arrays import Floats
from autocompress.data.scoring.scorer import Estimate, KeptOutputs, Scorer
from autocompress.nested import Nested

RESAMPLES = 200
FEWEST_RESAMPLES = 8  # of which a spread can be told at all
RESAMPLING_S = 5.0  # seconds, for all resamples together: a metric that takes longer has fewer of them


class ResampledScorer(Scorer):
    """A scorer whose intervals and errors are of resamples, as many as can be afforded; none where that is too few."""

    @abstractmethod
    def rows(self, kept: KeptOutputs, targets: Nested) -> int:
        """How many there are to draw from: examples, or blocks of them."""

    @abstractmethod
    def drawn(self, kept: KeptOutputs, targets: Nested, rows: Tensor) -> float:
        """The metric of some rows (1-D int64, with repetitions), higher is better. It may raise."""

    def estimate(self, kept: KeptOutputs, targets: Nested, seed: int) -> Estimate:
        value = self.value(kept, targets)
        draws = self._resampled([kept], targets, seed)[:, 0] if math.isfinite(value) else np.zeros(0)
        if not len(draws):
            return Estimate(value, value, value)
        return Estimate(value, float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5)))

    def difference(self, one: KeptOutputs, other: KeptOutputs, targets: Nested, seed: int) -> tuple[float, float]:
        difference = self.value(one, targets) - self.value(other, targets)
        draws = self._resampled([one, other], targets, seed)
        return difference, float(np.std(draws[:, 0] - draws[:, 1])) if len(draws) else 0.0

    def _resampled(self, kepts: Sequence[KeptOutputs], targets: Nested, seed: int) -> Floats:
        """The metric of each of ``kepts`` on the same drawn rows -> (at most RESAMPLES, len(kepts)); draws that the
        metric cannot score are left out.
        """
        if sum(1 / max(self.calls_in(RESAMPLING_S, kept), 1e-9) for kept in kepts) > 1 / FEWEST_RESAMPLES:
            return np.zeros((0, len(kepts)))
        generator = torch.Generator().manual_seed(seed)
        count, found = self.rows(kepts[0], targets), []
        began = time.monotonic()
        for _ in range(RESAMPLES):
            if time.monotonic() - began > RESAMPLING_S:
                break
            rows = torch.randint(count, (count,), generator=generator)
            try:
                row = [self.drawn(kept, targets, rows) for kept in kepts]
            except Exception:  # the user's metric: a resample of one class has no area under a curve
                continue
            if all(map(math.isfinite, row)):
                found.append(row)
        return np.array(found).reshape(-1, len(kepts))

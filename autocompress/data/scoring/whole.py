"""A metric of the user's own: it is given all outputs at once, so all are kept, and its errors are drawn.

The bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.
"""

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from autocompress.arrays import Floats
from autocompress.data.batch import rows_in, take_rows
from autocompress.data.layout import OutputLayout
from autocompress.data.scoring.scorer import Estimate, Kept, Scorer
from autocompress.nested import Nested
from autocompress.task import Metric, Task

RESAMPLES = 200
FEWEST_RESAMPLES = 8  # of which a spread can be told at all
RESAMPLING_S = 5.0  # seconds, for all resamples together: a metric that takes longer has fewer of them


class WholeScorer(Scorer):
    """metric: of what the model returns and the targets, of any number of examples."""

    def __init__(self, task: Task, layout: OutputLayout, metric: Metric) -> None:
        super().__init__(task, layout)
        self._metric = metric
        self._seconds = 0.0  # that the metric takes

    def keep(self, rows: Mapping[str, Tensor], targets: Nested) -> Kept:
        return dict(rows)

    def value(self, kept: Kept, targets: Nested) -> float:
        began = time.perf_counter()
        value = self.sign * float(self._metric(self.layout.returned(kept), targets))
        self._seconds = time.perf_counter() - began
        return value

    def estimate(self, kept: Kept, targets: Nested, seed: int) -> Estimate:
        value = self.value(kept, targets)
        draws = self._resampled([kept], targets, seed)[:, 0] if math.isfinite(value) else np.zeros(0)
        if not len(draws):
            return Estimate(value, value, value)
        return Estimate(value, float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5)))

    def difference(self, one: Kept, other: Kept, targets: Nested, seed: int) -> tuple[float, float]:
        difference = self.value(one, targets) - self.value(other, targets)
        draws = self._resampled([one, other], targets, seed)
        return difference, float(np.std(draws[:, 0] - draws[:, 1])) if len(draws) else 0.0

    def constant(self, kept: Kept, targets: Nested) -> float:
        """Of the mean of each output."""
        means = {
            name: rows.double().mean(0, keepdim=True).to(rows.dtype).expand_as(rows) for name, rows in kept.items()
        }
        return self.value(means, targets)

    def _resampled(self, kepts: Sequence[Kept], targets: Nested, seed: int) -> Floats:
        """The metric of each of ``kepts`` on the same resampled examples -> (at most RESAMPLES, len(kepts)); resamples
        that the metric cannot score are left out.
        """
        generator = torch.Generator().manual_seed(seed)
        count, rows = rows_in(targets), []
        affordable = int(RESAMPLING_S / (self._seconds * len(kepts) + 1e-9))
        for _ in range(min(RESAMPLES, affordable) if affordable >= FEWEST_RESAMPLES else 0):
            drawn = torch.randint(count, (count,), generator=generator)
            try:
                row = [self.value(take_rows(kept, drawn), take_rows(targets, drawn)) for kept in kepts]
            except Exception:  # the user's metric: a resample of one class has no area under a curve
                continue
            if all(map(math.isfinite, row)):
                rows.append(row)
        return np.array(rows).reshape(-1, len(kepts))

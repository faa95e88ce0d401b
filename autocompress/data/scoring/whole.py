"""A metric that needs all outputs at once: all are kept, and the metric of them with them, so that one that is slow is
computed once.
"""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from autocompress.data.batch import joined_padded, rows_in, take_rows
from autocompress.data.layout import OutputLayout
from autocompress.data.scoring.resampled import ResampledScorer
from autocompress.data.scoring.scorer import KeptOutputs, Pieces
from autocompress.errors import CandidateFailed
from autocompress.nested import Nested
from autocompress.task import Task

METRIC = "its metric"  # beside the outputs: the value, and the seconds that it took
WholeMetric = Callable[[Nested, Nested], float]


class WholeScorer(ResampledScorer):
    """metric: of what the model returns and the targets, of any number of examples; it raises CandidateFailed."""

    def __init__(
        self, task: Task, layout: OutputLayout, metric: WholeMetric, *, maximize: bool = True, surely: bool = True
    ) -> None:
        super().__init__(task, layout, maximize=maximize, surely=surely)
        self._metric = metric

    def kept(self, pieces: Pieces, examples: int) -> KeptOutputs:
        outputs, targets = [], []
        for rows, wanted in pieces:
            outputs.append(dict(rows))
            targets.append(wanted)
        kept: dict[str, Tensor] = joined_padded(outputs)
        began = time.perf_counter()
        try:
            value = self._computed(kept, joined_padded(targets, self.task.ignored))
        except CandidateFailed:  # said to whoever asks for the value
            return kept
        return kept | {METRIC: torch.tensor([value, time.perf_counter() - began], dtype=torch.float64)}

    def value(self, kept: KeptOutputs, targets: Nested) -> float:
        return float(kept[METRIC][0]) if METRIC in kept else self._computed(kept, targets)

    def cut(self, kept: KeptOutputs, examples: Tensor, of: int) -> KeptOutputs:
        return take_rows(_outputs(kept), examples)  # type: ignore[no-any-return]

    def calls_in(self, seconds: float, kept: KeptOutputs) -> float:
        return seconds / max(float(kept[METRIC][1]), 1e-9) if METRIC in kept else super().calls_in(seconds, kept)

    def permuted(self, kept: KeptOutputs, targets: Nested) -> float:
        return self._computed(_outputs(kept), targets)

    def constant(self, kept: KeptOutputs, targets: Nested) -> float:
        """Of the mean of each output."""
        means = {
            name: rows.mean(0, keepdim=True, dtype=torch.float64).to(rows.dtype).expand_as(rows)
            for name, rows in _outputs(kept).items()
        }
        return self._computed(means, targets)

    def rows(self, kept: KeptOutputs, targets: Nested) -> int:
        return rows_in(targets)

    def drawn(self, kept: KeptOutputs, targets: Nested, rows: Tensor) -> float:
        return self._computed(take_rows(_outputs(kept), rows), take_rows(targets, rows))

    def _computed(self, outputs: KeptOutputs, targets: Nested) -> float:
        return self.sign * self._metric(self.layout.returned(outputs), targets)


def _outputs(kept: KeptOutputs) -> Mapping[str, Tensor]:
    return {name: rows for name, rows in kept.items() if name != METRIC}

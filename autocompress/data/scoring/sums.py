"""A metric whose state adds up: it is told outputs piece by piece, and what each block of examples added is kept.

torchmetrics names how the states of several processes become one; where that is their sum, so is the state of all
examples the sum of the blocks'. Outputs need not be held: of mean IoU over 500 maps of 21 classes a table of counts an
image is left.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_sum

from autocompress.data.batch import rows_in, take_rows
from autocompress.data.layout import OutputLayout
from autocompress.data.scoring.metric_object import MetricObject
from autocompress.data.scoring.resampled import ResampledScorer
from autocompress.data.scoring.scorer import KeptOutputs, Pieces, Scorer
from autocompress.data.scoring.whole import WholeScorer
from autocompress.nested import Nested
from autocompress.task import Task

BLOCKS, FEWEST_BLOCKS = 500, 20
STATE_BYTES = 64 << 20  # of all blocks of a file, about


def adds_up(metric: object) -> bool:
    """Whether the state of a metric is the sum of the states of its parts."""
    return (
        isinstance(metric, Metric)
        and bool(metric.metric_state)
        and all(isinstance(state, Tensor) for state in metric.metric_state.values())
        and all(reduction is dim_zero_sum for reduction in metric._reductions.values())
    )


class SumsScorer(ResampledScorer):
    """Blocks are of one example each up to ``BLOCKS`` of them, and of consecutive ones beyond: in a split sorted by
    class errors are too large then, and not too small.
    """

    uses_targets = False

    def __init__(
        self, task: Task, layout: OutputLayout, given: MetricObject, *, maximize: bool = True, surely: bool = True
    ) -> None:
        super().__init__(task, layout, maximize=maximize, surely=surely)
        self._given = given
        self._metric: Metric = given.metric

    def kept(self, pieces: Pieces, examples: int) -> KeptOutputs:
        size = -(-examples // self._most_blocks())
        blocks: list[dict[str, Tensor]] = []
        room = 0  # for more examples in the last block
        for rows, targets in pieces:
            at, count = 0, rows_in(targets)
            while at < count:
                if not room:
                    self._given.reset()
                    blocks.append({})
                    room = size
                taken = slice(at, min(at + room, count))
                self._given.update(self.layout.returned(take_rows(dict(rows), taken)), take_rows(targets, taken))
                room -= taken.stop - at
                at = taken.stop
                blocks[-1] = {name: state.clone() for name, state in self._states().items()}
        return {name: torch.stack([block[name] for block in blocks]) for name in blocks[0]}

    def _most_blocks(self) -> int:
        """Fewer where the state is large, as a table of a thousand classes is."""
        self._given.reset()
        each = sum(state.element_size() * state.numel() for state in self._states().values())
        return max(FEWEST_BLOCKS, min(BLOCKS, STATE_BYTES // each))

    def _states(self) -> dict[str, Tensor]:
        return {name: state for name, state in self._metric.metric_state.items() if isinstance(state, Tensor)}

    def value(self, kept: KeptOutputs, targets: Nested) -> float:
        return self._of_states({name: _sum(states) for name, states in kept.items()})

    def _of_states(self, states: Mapping[str, Tensor]) -> float:
        self._given.reset()
        for name, state in states.items():
            setattr(self._metric, name, state)
        self._metric._update_count = 1  # or it warns that it was told nothing
        return self.sign * self._given.computed()

    def cut(self, kept: KeptOutputs, examples: Tensor, of: int) -> KeptOutputs | None:
        return super().cut(kept, examples, of) if self.rows(kept, None) == of else None

    @property
    def whole(self) -> Scorer:
        return WholeScorer(self.task, self.layout, self._given, maximize=self.maximize, surely=self.surely)

    def constant(self, kept: KeptOutputs, targets: Nested) -> float:
        return math.nan  # of outputs that are not kept

    def rows(self, kept: KeptOutputs, targets: Nested) -> int:
        return len(next(iter(kept.values())))

    def drawn(self, kept: KeptOutputs, targets: Nested, rows: Tensor) -> float:
        return self._of_states({name: _sum(states[rows]) for name, states in kept.items()})


def _sum(states: Tensor) -> Tensor:
    """Of all blocks; of floating point in double precision."""
    wide = states.double() if states.is_floating_point() else states
    return wide.sum(0).to(states.dtype)

"""What a scorer does: it keeps of outputs what its metric needs, and compares files on the same examples."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from autocompress.data.batch import take_rows
from autocompress.data.layout import OutputLayout
from autocompress.errors import CandidateFailed
from autocompress.nested import Nested
from autocompress.task import Task

KeptOutputs = Mapping[str, Tensor]  # of the outputs of a file over a split: tensors by name
Pieces = Iterable[tuple[Mapping[str, Tensor], Nested]]  # of a split, in order: ``OutputLayout.rows``, and targets


@dataclass(frozen=True)
class Estimate:
    """A value, higher is better, and its 95 % interval."""

    value: float
    low: float
    high: float


class Scorer(ABC):
    """Scores a task's outputs by its metric, in the metric's own unit, turned round where lower is better.

    maximize: whether higher values of the metric are better. surely: whether that is known of the metric itself, and
    not taken from the task. uses_targets: whether what is kept is of no use without the targets.
    of_examples: whether the metric says of one example what it says of many, whether or not it is their mean.
    """

    uses_targets = True
    of_examples = False

    def __init__(self, task: Task, layout: OutputLayout, *, maximize: bool = True, surely: bool = True) -> None:
        self.task = task
        self.layout = layout
        self.maximize = maximize
        self.surely = surely

    @property
    def sign(self) -> int:
        return 1 if self.maximize else -1

    @abstractmethod
    def kept(self, pieces: Pieces, examples: int) -> KeptOutputs:
        """What is kept of the outputs for so many examples, so that they need not be. It may raise
        CandidateFailed.
        """

    @abstractmethod
    def value(self, kept: KeptOutputs, targets: Nested) -> float:
        """The metric, higher is better. Raises CandidateFailed when the metric does, or gives no number."""

    @abstractmethod
    def estimate(self, kept: KeptOutputs, targets: Nested, seed: int) -> Estimate:
        """The metric with its interval over the examples."""

    @abstractmethod
    def difference(self, one: KeptOutputs, other: KeptOutputs, targets: Nested, seed: int) -> tuple[float, float]:
        """Value of ``one`` minus value of ``other`` on the same examples, and its standard error."""

    def cut(self, kept: KeptOutputs, examples: Tensor, of: int) -> KeptOutputs | None:
        """Of what was kept ``of`` so many examples what belongs to some of them (1-D int64); None where that cannot be
        told.
        """
        return take_rows(dict(kept), examples)  # type: ignore[no-any-return]

    def each(self, kept: KeptOutputs, targets: Nested, of: int, seconds: float) -> Tensor | None:
        """The metric of each of so many examples, (N,), higher is better, NaN where it is undefined; None where that
        cannot be worked out, or takes more than so many seconds.
        """
        found, began = [], time.monotonic()
        for number in range(of):
            if time.monotonic() - began > seconds:
                return None
            row = torch.tensor([number])
            if (part := self.cut(kept, row, of)) is None:
                return None
            try:
                found.append(self.value(part, take_rows(targets, row) if self.uses_targets else None))
            except CandidateFailed:
                found.append(math.nan)
        return torch.tensor(found, dtype=torch.float64)

    @property
    def whole(self) -> "Scorer | None":
        """One that keeps outputs, which can be put beside other targets; None where what this one keeps can be."""
        return None

    def calls_in(self, seconds: float, kept: KeptOutputs) -> float:
        """How often the metric can be computed in so much time, as far as is known."""
        return math.inf

    def permuted(self, kept: KeptOutputs, targets: Nested) -> float:
        """The metric where each output stands beside the target of another example, higher is better."""
        return self.value(kept, targets)

    @abstractmethod
    def constant(self, kept: KeptOutputs, targets: Nested) -> float:
        """What one answer given for every example scores, which knows nothing of an example. It may raise."""

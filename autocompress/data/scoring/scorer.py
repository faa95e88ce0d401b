"""What a scorer does: it keeps of outputs what its metric needs, and compares files on the same examples."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from autocompress.data.layout import OutputLayout
from autocompress.nested import Nested
from autocompress.task import Task

Kept = Mapping[str, Tensor]  # of the outputs of a file over a split: tensors by name, one row an example


@dataclass(frozen=True)
class Estimate:
    """A value, higher is better, and its 95 % interval."""

    value: float
    low: float
    high: float


class Scorer(ABC):
    """Scores a task's outputs by its metric, in the metric's own unit, turned round where lower is better."""

    def __init__(self, task: Task, layout: OutputLayout) -> None:
        self.task = task
        self.layout = layout

    @property
    def sign(self) -> int:
        return 1 if self.task.maximize else -1

    @abstractmethod
    def keep(self, rows: Mapping[str, Tensor], targets: Nested) -> Kept:
        """What is kept of the outputs for some examples (``OutputLayout.rows``), so that they need not be: tensors with
        one row an example.
        """

    @abstractmethod
    def value(self, kept: Kept, targets: Nested) -> float:
        """The metric, higher is better."""

    @abstractmethod
    def estimate(self, kept: Kept, targets: Nested, seed: int) -> Estimate:
        """The metric with its interval over the examples."""

    @abstractmethod
    def difference(self, one: Kept, other: Kept, targets: Nested, seed: int) -> tuple[float, float]:
        """Value of ``one`` minus value of ``other`` on the same examples, and its standard error."""

    @abstractmethod
    def constant(self, kept: Kept, targets: Nested) -> float:
        """What one answer given for every example scores, which knows nothing of an example. It may raise."""

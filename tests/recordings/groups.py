"""The interface that a search asks through, and the groups of operations that are entered as it asks."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate.request import TrainRequest
from autocompress.comparison import TimingSession
from autocompress.compute.operations import WorkerOperations
from autocompress.evaluation import Evaluation, Outcome
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.gating import Gating
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.pipeline.scoring import Stands, anything_stands
from autocompress.recipe import Recipe, Step

from . import declared as cost
from . import entries
from .operations import DeclaredExecutor


class DeclaredOperations(WorkerOperations):
    """Limits and second tries are the product's; what is asked of a worker is declared."""

    def __init__(
        self, executor: DeclaredExecutor, clock: Callable[[], float], note: Callable[[str], None], beside: int
    ) -> None:
        super().__init__(executor, executor, clock, note, beside=beside)
        self.executor = executor


class RecordedPipeline(Pipeline):
    """The pipeline of a search, which also enters in the log the groups that it asks for operation by operation."""

    operations: DeclaredOperations

    @classmethod
    def like(cls, other: Pipeline) -> "RecordedPipeline":
        return cls(**{own.name: getattr(other, own.name) for own in fields(other)})

    async def gate(self, recipe: Recipe, budget: Budget, limit_s: float) -> Gate:
        executor = self.operations.executor
        executor.log.add(entries.gate(recipe, budget=str(budget), plans=None, limit_s=limit_s))
        await executor.begins("gate", 0.5 * cost.EXPORT_S)
        return await super().gate(recipe, budget, limit_s)

    async def evaluate(
        self,
        request: TrainRequest,
        *,
        skip: Sequence[Step] = (),
        worth_below: float | None = None,
        stands: Stands = anything_stands,
        limit_s: float,
        first_look: bool = False,
    ) -> Outcome:
        executor = self.operations.executor
        executor.groups[request.recipe.id] = tuple(skip), worth_below, limit_s
        return await super().evaluate(
            request, skip=skip, worth_below=worth_below, stands=stands, limit_s=limit_s, first_look=first_look
        )

    async def session(self, evaluation: Evaluation, seconds: float, limit_s: float) -> TimingSession:
        executor = self.operations.executor
        executor.log.add(entries.session(evaluation.id, limit_s=limit_s))
        await executor.begins("session", 0.5 * cost.TIMED_S)
        return await super().session(evaluation, seconds, limit_s)


class RecordedGating(Gating):
    """Structures gated by a recorded pipeline, while a task is opened too."""

    def __init__(self, own: Pipeline, *others: Any) -> None:
        super().__init__(RecordedPipeline.like(own), *others)

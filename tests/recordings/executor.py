"""The executor that a search is given: each call is entered in the log, answered with what is declared, and takes the
time that is declared, or its limit.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate.bench import Request
from autocompress.candidate.evaluate import Evaluation
from autocompress.candidate.measure import Effort
from autocompress.candidate.opening import Opening
from autocompress.candidate.preparation import Groundwork
from autocompress.errors import CandidateFailed, Interrupted
from autocompress.run.worker import WorkerCrashed, WorkerDied

from . import entries
from .declared import Declared, exact
from .entries import Entry, Log
from .pipeline import Pipeline
from .scenarios import Stop

SIGSEGV = "the worker process ended (SIGSEGV); see worker.log"


class Killed(BaseException):
    """The process ended at once."""


@dataclass
class DeclaredExecutor:
    """asked: how often each method was, over all processes of the scenario. crashing: which evaluations end the worker,
    by that number. stop: how this process ends before the search does; ``interrupted`` once it is to.
    """

    declared: Declared
    lanes: int
    asked: Counter[str]
    crashing: frozenset[int] = frozenset()
    stop: Stop | None = None
    log: Log = field(default_factory=Log)
    interrupted: bool = False

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.lanes)
        self._pipeline = Pipeline(self.declared)

    async def call(self, method: str, *args: Any, limit_s: float | None = None) -> Any:
        async with self._free:
            self.log.add(getattr(self, f"_{method}")(*args, limit_s=limit_s))
            ends, answer = self._ends(method), self._answer(method, args)
            seconds = self._pipeline.spent_s * (0.5 if ends else 1.0)
            late = limit_s is not None and seconds > limit_s
            await asyncio.sleep(exact(limit_s if late and limit_s is not None else seconds))
        if late:
            raise WorkerDied(f"no answer within {limit_s:.0f} s: it was stopped", doing=method)
        if ends is not None:
            raise ends
        if isinstance(answer, CandidateFailed):
            raise answer
        return answer

    def sharing(self, lanes: int) -> AbstractContextManager[None]:
        return nullcontext()

    def spent(self) -> dict[str, float]:
        return {}

    def kill(self) -> None: ...

    def close(self) -> None: ...

    def _answer(self, method: str, args: tuple[Any, ...]) -> Any:
        """What a group gives, or the error it ends with."""
        self._pipeline.spent_s = 0.0
        try:
            return getattr(self._pipeline, method)(*args)
        except CandidateFailed as error:
            return error

    def _ends(self, method: str) -> BaseException | None:
        """What ends this call half way, if anything does."""
        self.asked[method] += 1
        if method == "evaluate" and self.asked[method] in self.crashing:
            return WorkerCrashed(SIGSEGV, doing="train")
        if self.stop is None or (method, self.asked[method]) != (self.stop.method, self.stop.number):
            return None
        self.interrupted = self.stop.how in ("asked", "in the call")
        ends = {
            "asked": None,
            "in the call": Interrupted("stopped at a safe point"),
            "killed": Killed(),
            "crashed": WorkerCrashed(SIGSEGV, doing="does it apply?"),
        }
        return ends[self.stop.how]

    # What is entered in the log for each call.

    def _prepare(self, known: Groundwork | None, only: Sequence[str] | None, limit_s: float | None) -> Entry:
        return entries.prepare(known=known is not None, only=only, limit_s=limit_s)

    def _open(self, known: Opening | None, only: Sequence[str] | None, limit_s: float | None) -> Entry:
        return entries.opened(known=known is not None, only=only, limit_s=limit_s)

    def _gate(self, request: Request, budget: Budget, limit_s: float | None) -> Entry:
        return entries.gate(request.recipe, budget=str(budget), plans=request.plans, limit_s=limit_s)

    def _evaluate(self, request: Request, limit_s: float | None) -> Entry:
        return entries.evaluate(
            request.recipe,
            rung=request.rung,
            start=request.start,
            examples=request.examples,
            train_s=request.limit_s,
            length_s=request.length_s,
            checkpoint=request.checkpoint,
            plans=request.plans,
            learned=request.learned,
            skip=request.skip,
            worth_below=request.worth_below,
            limit_s=limit_s,
        )

    def _remeasure(self, evaluation: Evaluation, effort: Effort, limit_s: float | None) -> Entry:
        return entries.remeasure(
            evaluation.id,
            seconds=effort.seconds,
            blocks=effort.blocks,
            width=effort.width,
            attempts=effort.attempts,
            limit_s=limit_s,
        )

    def _test(self, evaluations: Sequence[Evaluation], limit_s: float | None) -> Entry:
        return entries.test([e.id for e in evaluations], limit_s=limit_s)

    def _compare(self, best: Evaluation, others: Sequence[Evaluation], limit_s: float | None) -> Entry:
        return entries.compare(best.id, [e.id for e in others], limit_s=limit_s)

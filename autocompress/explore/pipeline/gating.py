"""Structures timed before they are trained, as many at once as can be under way."""

import asyncio
from collections.abc import Callable

from autocompress.budget import Budget
from autocompress.explore.clock.durations import Durations
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.recipe import Recipe

GATE_LIMIT_S = 120.0  # for one structure, at most
GATE_LEAST_S = 30.0  # for one that hangs; more for a model that took longer to prepare
PREPARATIONS = 4.0  # times preparing the task, which exports the reference, that a gate may take


def gate_limit_s(prepared_s: float) -> float:
    """Seconds that timing one structure may take. prepared_s: those that preparing the task took."""
    return min(GATE_LIMIT_S, max(GATE_LEAST_S, PREPARATIONS * prepared_s))


class Gating:
    """prepared_s: seconds that preparing the task took. check_interrupted: raises Interrupted when the search is to
    end.
    """

    def __init__(
        self, pipeline: Pipeline, prepared_s: float, durations: Durations, check_interrupted: Callable[[], None]
    ) -> None:
        self._pipeline = pipeline
        self._limit_s = gate_limit_s(prepared_s)
        self._durations = durations
        self._check_interrupted = check_interrupted
        self._turns = asyncio.Semaphore(pipeline.operations.families)

    async def time(self, recipe: Recipe, budget: Budget) -> Gate:
        """Build and time a structure. Raises CandidateFailed."""
        async with self._turns:  # what waits can still be interrupted, and its limit is that of its turn
            self._check_interrupted()
            return await self._pipeline.gate(recipe, budget, self._durations.within(self._limit_s))

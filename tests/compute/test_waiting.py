"""What a candidate waited for is known, and not its own time."""

import asyncio
import time
from typing import Any

from autocompress.compute.executor import Pool
from autocompress.compute.policy import WorkerPolicy
from autocompress.compute.waiting import waited_s, waiting
from autocompress.explore.pipeline.left import Left


def test_what_waits_inside_counts_once_and_each_task_for_itself() -> None:
    async def one(seconds: float) -> float:
        with waiting():
            await asyncio.sleep(seconds / 2)
            with waiting():
                await asyncio.sleep(seconds / 2)
        return waited_s()

    async def two() -> list[float]:
        return await asyncio.gather(one(0.02), one(0.1))

    short, long = asyncio.run(two())
    assert 0.02 <= short < 0.1 <= long


class Busy:
    """A worker whose calls take so long."""

    def call(self, method: str, *args: Any, limit_s: float | None = None, threads: int = 0) -> str:
        time.sleep(0.2)
        return method

    def start(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


def test_a_candidate_that_queues_for_a_worker_has_its_whole_limit_when_its_turn_comes() -> None:
    """One worker, two candidates of two calls each."""
    pool: Any = Pool([Busy()], WorkerPolicy(cores=1))  # type: ignore[list-item]

    async def candidate() -> float:
        left = Left(5.0, time.monotonic)
        for _ in range(2):
            await pool.call("make")
        return left()

    async def both() -> list[float]:
        return await asyncio.gather(candidate(), candidate())

    began = time.monotonic()
    lefts = asyncio.run(both())
    whole_s = time.monotonic() - began
    pool.close()
    assert 5.0 - min(lefts) < 0.75 * whole_s, "its own two calls of the four, and not those it stood behind"

"""Families under way, and who waits for one of them to end."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.compute.worker import WorkerDied
from autocompress.errors import CandidateFailed, Interrupted
from autocompress.explore.training.training import Training
from autocompress.recipe import Recipe, Step

RECIPE = Recipe((Step.of("carve", ratio=0.5),))


def training(left_s: float = 60.0) -> Training:
    known: Any = SimpleNamespace(
        left=lambda: left_s, elapsed=lambda: 0.0, families={}, keep_pending=list, keep_elapsed=lambda seconds: None
    )
    known.trim = known.in_use = lambda *kept: set()
    pipeline: Any = SimpleNamespace(prepared=SimpleNamespace(feeds="feeds"))
    return Training(pipeline, known, known, known, known, known, known, known, lambda: None)


@pytest.mark.parametrize(
    ("error", "left_s", "pending"),
    [
        (None, 60.0, False),
        (CandidateFailed("it cannot be built"), 60.0, False),
        (WorkerDied("no answer", doing="train"), 0.0, True),
        (Interrupted("stopped at a safe point"), 60.0, True),
    ],
    ids=["done", "failed", "cut off", "interrupted"],
)
def test_who_waits_goes_on_when_a_family_ends_however_it_does(
    error: Exception | None, left_s: float, pending: bool
) -> None:
    made = training(left_s)

    async def one(begun: asyncio.Event) -> None:
        with made.under_way(RECIPE):
            begun.set()
            await asyncio.sleep(0.01)
            assert made.running == 1
            if error is not None:
                raise error

    async def both() -> None:
        begun = asyncio.Event()
        running = asyncio.ensure_future(one(begun))
        await begun.wait()
        await asyncio.wait_for(made.one_ends(), 10)
        assert made.running == 0
        assert made.is_busy(RECIPE) == pending, "what was not finished is what a resume tries first"
        await asyncio.wait({running})
        running.exception()

    asyncio.run(both())

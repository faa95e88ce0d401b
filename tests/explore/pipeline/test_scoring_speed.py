"""What scoring takes, of which the time for testing follows."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.compute.waiting import waiting
from autocompress.explore.pipeline.pipeline import Pipeline


def test_waiting_for_a_worker_is_not_what_scoring_takes() -> None:
    seconds, took = [0.0], list[tuple[float, float]]()

    async def score(files: object, sample: object, limit_s: float) -> tuple[()]:
        asyncio.get_running_loop().time = lambda: seconds[0]  # type: ignore[method-assign]
        with waiting():
            seconds[0] += 40.0
        seconds[0] += 3.0
        return ()

    known: Any = {
        "operations": SimpleNamespace(score=score),
        "profile": SimpleNamespace(batch=1),
        "prepared": SimpleNamespace(val_examples=500),
        "speed": SimpleNamespace(took=lambda *what: took.append(what)),
    }
    pipeline = Pipeline(folder=None, seed=0, ratios={}, now=lambda: seconds[0], **known)  # type: ignore[arg-type]
    file: Any = "a file", SimpleNamespace(p50=4.0)
    asyncio.run(pipeline._timed_score([file], None, 60.0))
    assert took == [(3.0, pytest.approx(2.0))]

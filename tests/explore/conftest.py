"""Whole searches in this process, on the profile ``fake``; and histories that no search made."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autocompress import Task, search
from autocompress.evaluation import Evaluation, Outcome
from autocompress.explore.history.history import History
from autocompress.explore.policy import SearchPolicy
from autocompress.plugin.loader import PluginSet

QUICK = SearchPolicy(compare_exporters=False)  # the other exporter takes ten times as long
MINUTES = 1.0  # far more than three trials take; a busy machine must not change the outcome


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "fake.toml"
    path.write_text('name = "fake"\nruntime = "fake"\n')
    return str(path)


@pytest.fixture
def clear_task(tiny_task: Task, examples: Callable[[int, int], Any]) -> Task:
    """The tiny task, validated on examples that the model tells apart clearly: int8 rounding, which is not the same on
    every processor, changes none of its predictions.
    """
    inputs, targets = examples(384, 2)
    with torch.no_grad():
        first, second = tiny_task.model(inputs).topk(2).values.unbind(1)
    clearest = (first - second).topk(96).indices
    return replace(tiny_task, val=(inputs[clearest], targets[clearest]))


@pytest.fixture
def run(tiny_task: Task, plugins: PluginSet, profile: str, tmp_path: Path) -> Any:
    def go(task: Task | None = None, out: str = "run", **options: Any) -> dict[str, Any]:
        settings = {
            "minutes": MINUTES,
            "trials": 3,
            "profile": profile,
            "plugins": plugins,
            "quiet": True,
            "policy": QUICK,
            **options,
        }
        return search(task or tiny_task, out=tmp_path / out, **settings)

    return go


class Unrecorded:
    """A record that keeps nothing."""

    def add(self, trial: Any) -> None: ...

    def append(self, prefix: str, value: Any) -> None: ...

    def every(self, prefix: str) -> list[Any]:
        return []

    def trials(self) -> list[Any]:
        return []


@pytest.fixture(scope="session")
def make_history() -> Callable[..., History]:
    """``make_history(reference, *variants)``: of a search in which nothing happened yet, recorded nowhere."""

    def make(reference: Evaluation, *variants: Evaluation) -> History:
        own = {"reference": reference, "reference_family": Outcome(evaluations=variants)}
        opening: Any = type("Opening", (), own)
        return History(opening, Unrecorded())

    return make

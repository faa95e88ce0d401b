"""Every result that a benchmark has written can be drawn anew."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))


class Canvas:
    """Takes whatever is drawn, and keeps it."""

    def __init__(self) -> None:
        self.drawn: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self.drawn.append((name, args))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_has_a_plot_and_can_be_drawn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    plots = importlib.import_module("plots")
    canvas = Canvas()
    plots.PLOTS[path.stem.partition("-")[0]](canvas, json.loads(path.read_text("utf-8")))
    assert {name for name, _ in canvas.drawn} & {"plot", "step", "bar", "barh", "scatter"}
    assert path.with_suffix(".svg").exists()

"""What the benchmark of a search's first minute counts."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def first_minute(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("first_minute")


def file(elapsed_s: float, score: float, ratio: float, on_front: bool = True) -> dict[str, Any]:
    return {
        "elapsed_s": elapsed_s,
        "score": {"val": score},
        "latency_ms": {"ratio": ratio},
        "on_front": on_front,
    }


@pytest.mark.parametrize(
    ("candidate", "stood"),
    [
        (file(10.0, 0.9, 0.3), True),
        (file(10.0, 0.8, 0.6), False),
        (file(10.0, 0.95, 0.5), True),
        (file(30.0, 0.9, 0.3), False),
    ],
    ids=["faster", "dominated", "better", "too late"],
)
def test_a_file_stands_where_nothing_that_was_there_before_dominates_it(
    candidate: dict[str, Any], stood: bool, first_minute: ModuleType
) -> None:
    assert (
        first_minute.stands(candidate, [file(1.0, 0.9, 0.5), file(20.0, 0.9, 0.2), candidate], maximize=True) == stood
    )


def test_lower_is_better_where_a_metric_says_so(first_minute: ModuleType) -> None:
    assert first_minute.stands(file(10.0, 0.1, 0.5), [file(1.0, 0.2, 0.5)], maximize=False)
    assert not first_minute.stands(file(10.0, 0.2, 0.5), [file(1.0, 0.1, 0.5)], maximize=False)


def test_points_are_apart_and_near_enough_to_the_reference(first_minute: ModuleType) -> None:
    front = [file(0.0, 0.9, 1.0), file(1.0, 0.9, 0.5), file(2.0, 0.89, 0.48), file(3.0, 0.88, 0.3), file(4.0, 0.8, 0.1)]
    document = {
        "maximize": True,
        "reference": {"score": {"val": 0.9}},
        "candidates": [*front, file(5.0, 0.9, 0.2, False)],
    }
    assert first_minute.points(document) == 3, "0.5 lies within a tenth of 0.48, 0.1 is ten points below"

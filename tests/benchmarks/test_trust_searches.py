"""What the benchmark of searches says of a front.json."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("trust_searches")


def candidate(name: str, score: float, ratio: float, quiet: int = 3, on_front: bool = True) -> dict[str, Any]:
    return {
        "id": name,
        "score": {"val": score, "val_low": score - 0.01, "val_high": score + 0.01, "test": score - 0.02},
        "latency_ms": {"ratio": ratio, "quiet_sessions": quiet, "sessions": 3},
        "loss": {"points": 1.0, "error": 0.1},
        "verdicts": {"latency": {"answer": "met", "reason": ""}, "drop": None},
        "on_front": on_front,
    }


def document(*candidates: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "reference": {"score": {"val": 0.9, "val_low": 0.89, "val_high": 0.91, "test": 0.9}},
        "candidates": list(candidates),
        "recommended": "a",
        "budget": {"speedup": 2.0, "latency_ms": None},
        "spent_seconds": {"measure": 3.0, "train": 20.0},
        "wall_seconds": 60.0,
        **others,
    }


def test_of_a_search_it_tells_what_measuring_took_and_who_was_left_off(benchmark: ModuleType) -> None:
    files = candidate("a", 0.9, 0.4), candidate("b", 0.89, 0.3, quiet=0, on_front=False), candidate("c", 0.8, 0.5)
    row = benchmark.of_search(document(*files))
    assert row["measuring"] == pytest.approx(0.05)
    assert (row["files"], row["never_quiet"], row["left_off"]) == (3, 1, 1), "b is on the front and was not shown there"
    assert (row["latency"], row["drop"]) == ("met", None)
    assert (row["test_loss"], row["test_error"]) == (pytest.approx(2.0), pytest.approx(100 * 0.0072, rel=0.01))


def test_of_a_search_that_recommends_nothing_there_is_no_loss(benchmark: ModuleType) -> None:
    row = benchmark.of_search(document(candidate("a", 0.9, 0.4), recommended=None))
    assert row["recommended"] is None
    assert "test_loss" not in row


@pytest.mark.parametrize(
    ("budget", "kept"), [({"speedup": 2.0, "latency_ms": None}, 2), ({"speedup": None, "latency_ms": 0.5}, 1)]
)
def test_later_sessions_are_held_against_the_budget_and_the_ratio(
    budget: dict[str, Any], kept: int, benchmark: ModuleType
) -> None:
    sessions = [
        {"ratio": 0.41, "statistic": 0.45, "busy": False},
        {"ratio": 0.45, "statistic": 0.55, "busy": True},
        {"ratio": 0.55, "statistic": 0.6, "busy": False},
    ]
    row = benchmark.of_sessions(document(candidate("a", 0.9, 0.4), budget=budget), sessions)
    assert (row["times"], row["kept"], row["within_3_percent"], row["busy"]) == (3, kept, 1, 1)

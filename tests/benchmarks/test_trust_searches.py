"""What the benchmark of searches plans, what it says of a front.json, and how it goes on where it was cut off."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autocompress.errors import UsageError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Module = Callable[[str], ModuleType]
WHAT = {
    "mode": "hold",
    "task": "digits",
    "minutes": 1.0,
    "state": "quiet",
    "budget": "speedup",
    "speedup": 2.0,
    "seed": 0,
}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


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
        "reference": {
            "score": {"val": 0.9, "val_low": 0.89, "val_high": 0.91, "test": 0.9},
            "latency_ms": {"statistic": 0.3},
        },
        "candidates": list(candidates),
        "recommended": "a",
        "budget": {"speedup": 2.0, "latency_ms": None},
        "spent_seconds": {
            "measure": 3.0,
            "measure_beside": 6.0,
            "train": 20.0,
            "score": 4.0,
            "wait": 2.0,
            "driver": 31.0,
        },
        "wall_seconds": 60.0,
        **others,
    }


A = candidate("a", 0.9, 0.4)


def test_of_a_search_it_tells_what_measuring_took_and_who_was_left_off(module: Module) -> None:
    rows = module("trust_rows")
    files = A, candidate("b", 0.89, 0.3, quiet=0, on_front=False), candidate("c", 0.8, 0.5)
    row = rows.of_search(document(*files))
    assert (row["measuring"], row["measuring_alone"]) == (pytest.approx(0.15), pytest.approx(0.05))
    assert row["idle"] == pytest.approx(0.6), "training and scoring took 24 of 60 seconds"
    assert (row["files"], row["never_quiet"], row["left_off"]) == (3, 1, 1), "b is on the front and was not shown there"
    assert (row["latency"], row["drop"]) == ("met", None)
    assert rows.of_search(document(*files), workers=2)["idle"] == pytest.approx(0.8)


def test_a_dominated_file_that_is_not_on_the_front_was_not_left_off(module: Module) -> None:
    files = A, candidate("b", 0.89, 0.5, on_front=False), candidate("twin", 0.9, 0.4, on_front=False)
    assert module("trust_rows").of_search(document(*files))["left_off"] == 0


def test_what_lost_more_than_half_of_the_lead_was_not_left_off(module: Module) -> None:
    fast = {**candidate("b", 0.4, 0.1, on_front=False), "keeps_lead": False}
    assert module("trust_rows").of_search(document(A, fast))["left_off"] == 0


def test_of_a_search_that_recommends_nothing_there_is_no_loss(module: Module) -> None:
    rows, nothing = module("trust_rows"), document(A, recommended=None)
    row = {"mode": "hold", **rows.of_search(nothing)}
    assert row["recommended"] is None
    assert rows.of_test(nothing) == {}
    assert all(rows.is_done(row, mode) for mode in ("share", "hold", "drop"))


@pytest.mark.parametrize(
    ("budget", "kept"), [({"speedup": 2.0, "latency_ms": None}, 2), ({"speedup": None, "latency_ms": 0.5}, 1)]
)
def test_later_sessions_are_held_against_the_budget_and_the_ratio(
    budget: dict[str, Any], kept: int, module: Module
) -> None:
    sessions = [
        {"ratio": 0.41, "statistic": 0.45, "busy": False},
        {"ratio": 0.45, "statistic": 0.55, "busy": True},
        {"ratio": 0.55, "statistic": 0.6, "busy": False},
    ]
    row = module("trust_rows").of_sessions(document(A, budget=budget), sessions)
    assert (row["times"], row["kept"], row["within_3_percent"], row["busy"]) == (3, kept, 1, 1)


def test_the_loss_on_the_test_split_is_judged_with_the_error_of_pairs_where_there_is_one(module: Module) -> None:
    of_test = module("trust_rows").of_test
    alone, paired = of_test(document(A)), of_test(document(A), 1.5)
    assert alone["test_loss"] == paired["test_loss"] == pytest.approx(2.0)
    assert (alone["test_error"], alone["paired"]) == (pytest.approx(0.72, rel=0.01), False)
    assert (alone["loses_more"], paired["loses_more"]) == (True, False), "2 points are more than 1.72, not than 2.5"


def test_the_summary_counts_by_mode_and_state(module: Module) -> None:
    sessions = {"times": 5, "kept": 5, "within_3_percent": 4, "recommended": 0.4, "latency": "met"}
    losing = {"mode": "drop", "state": "busy", "recommended": 0.4, "test_loss": 2.0, "loses_more": True}
    table = [
        {**WHAT, **sessions},
        {**WHAT, **sessions, "kept": 4, "latency": "undecided"},
        {**WHAT, "recommended": None},
        {**losing, "drop": "met"},
        {**losing, "drop": "undecided"},
        {"task": "digits", "state": "quiet", "measuring": 0.1},
    ]
    hold, drop = module("trust_rows").summary(table)
    assert (hold["searches"], hold["nothing_recommended"], hold["models"], hold["met"]) == (3, 1, 2, 1)
    assert (hold["sessions"], hold["kept"], hold["all_kept"], hold["within_3_percent"]) == (10, 9, 1, 8)
    assert (drop["met"], drop["undecided"], drop["loses_more"]) == (1, 1, 1), "what was not said to be met is not held"


def test_what_is_planned_has_names_of_its_own_and_milliseconds_last(module: Module) -> None:
    plan = module("trust_plan")
    found = list(plan.planned(plan.MODES, ("digits", "my/task.py:task"), plan.MINUTES, ("quiet", "busy"), None, 2))
    assert len({plan.run_name(what) for what in found}) == len(found) == 2 * (3 * 2 * 2 + 2 * (4 + 2) * 2 + (4 + 2) * 2)
    assert [what["budget"] for what in found if what["mode"] == "hold"] == 24 * ["speedup"] + 24 * ["ms"]
    assert {what["speedup"] for what in found if what["mode"] == "share"} == {3.0, 2.0}
    given = list(plan.planned(("drop",), ("digits",), {"drop": (1.0,)}, ("quiet",), (5.0,), 1))
    assert [what["speedup"] for what in given] == [5.0]


def test_a_budget_in_milliseconds_follows_from_what_the_reference_took(module: Module) -> None:
    asked = module("trust_plan").asked
    rows = [{"task": "digits", "reference_ms": ms} for ms in (0.31, 0.3, 9.0)] + [{"task": "other", "reference_ms": 7}]
    assert asked(WHAT, []) == ["--speedup", "2"]
    assert asked({**WHAT, "mode": "drop"}, []) == ["--speedup", "2", "--max-drop", "1"]
    assert asked({**WHAT, "budget": "ms"}, rows) == ["--budget-ms", "0.155"]
    with pytest.raises(UsageError, match="digits"):
        asked({**WHAT, "budget": "ms"}, [])


@pytest.fixture
def searches(module: Module, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark with searches that are there at once; ``made`` are the runs that were searched and timed again."""
    benchmark: Any = module("trust_searches")
    made: list[str] = []

    def searched(table: Any, what: dict[str, Any], options: list[str], out: Path, log: Path) -> dict[str, Any] | None:
        made.append(f"search {what['mode']} {what['seed']}")
        if what["seed"] == 9:
            return None
        out.mkdir()
        (out / "front.json").write_text("")
        return document(A)

    def read(out: Path) -> dict[str, Any]:
        if not out.exists():
            raise UsageError("no run")
        return document(A)

    def again(out: Path) -> dict[str, Any]:
        made.append("again")
        return {"ratio": 0.4, "statistic": 0.1, "busy": False}

    monkeypatch.setattr(benchmark.Table, "_searched", searched)
    monkeypatch.setattr(benchmark.Table, "write", lambda table: None)
    monkeypatch.setattr(benchmark, "read_front", read)
    monkeypatch.setattr(benchmark, "beside", lambda state: nullcontext())
    monkeypatch.setattr(benchmark, "once_more_elsewhere", again)
    monkeypatch.setattr(benchmark, "paired_elsewhere", lambda out, task: 0.5)
    benchmark.made = made
    return benchmark


def test_a_row_that_is_complete_is_not_made_again_and_its_run_is_removed(searches: Any, tmp_path: Path) -> None:
    table = searches.Table(tmp_path, 1, 5, 0.0)
    for mode in ("share", "hold", "drop"):
        table.row({**WHAT, "mode": mode})
    table.later(wait=True)
    assert searches.made == ["search share 0", "search hold 0", *5 * ["again"], "search drop 0"]
    assert [row.get("times") for row in table.rows] == [None, 5, None]
    assert table.rows[2]["test_error"] == 0.5
    assert not list(tmp_path.iterdir())
    after = searches.Table(tmp_path, 1, 5, 0.0, table.rows)
    for mode in ("share", "hold", "drop"):
        after.row({**WHAT, "mode": mode})
    assert len(searches.made) == 8
    assert not after.pending


def test_models_wait_for_their_sessions_while_other_searches_run(searches: Any, tmp_path: Path) -> None:
    table = searches.Table(tmp_path, 1, 5, 3600.0)
    for seed in (0, 1):
        table.row({**WHAT, "seed": seed})
    assert searches.made == ["search hold 0", "search hold 1"]
    table.wait_s = 0.0
    table.row({**WHAT, "seed": 2})
    assert searches.made == ["search hold 0", "search hold 1", *10 * ["again"], "search hold 2"]


@pytest.mark.parametrize("run", ["there", "gone", "another"])
def test_a_row_that_waits_for_its_sessions_goes_on_with_its_run(searches: Any, run: str, tmp_path: Path) -> None:
    table = searches.Table(tmp_path, 1, 5, 3600.0)
    table.row(WHAT)
    rows = [dict(row) for row in table.rows]
    if run == "gone":
        searches.shutil.rmtree(next(tmp_path.iterdir()))
    elif run == "another":
        rows[0]["wall_seconds"] = 59.0
    after = searches.Table(tmp_path, 1, 5, 0.0, rows)
    after.row(WHAT)
    after.later(wait=True)
    assert searches.made.count("search hold 0") == (1 if run == "there" else 2)
    assert [(row["times"], row["wall_seconds"]) for row in after.rows] == [(5, 60.0)]


def test_a_search_that_gives_nothing_is_told_and_has_no_row(
    searches: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = searches.Table(tmp_path, 1, 5, 0.0)
    table.row({**WHAT, "seed": 9})
    assert not table.rows
    assert len(table.failed) == 1
    assert str(tmp_path) not in capsys.readouterr().out

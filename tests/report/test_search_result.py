"""A result as a program and a notebook take it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from autocompress import SearchResult, load_result
from autocompress.budget import Budget
from autocompress.errors import UsageError
from autocompress.report import html
from tests.recordings import kinds
from tests.recordings.harness import searched
from tests.recordings.scenarios import Process, Scenario

EARLIER = Path(__file__).parent.parent / "fixtures" / "finished_run"
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[float, SearchResult]:
    """Of a search under a budget of four times, which can be met, and of 500 times."""
    made = {}
    for speedup in (4, 500):
        root = tmp_path_factory.mktemp("run")
        (ended,) = searched(Scenario("search", kinds.CNN, (Process(8),), Budget(speedup=speedup)), root)
        made[speedup] = SearchResult(root, ended.front)
    return made


@pytest.fixture
def result(results: dict[float, SearchResult]) -> SearchResult:
    return results[4]


def test_files_have_what_front_json_holds_of_them(result: SearchResult) -> None:
    known = {c["id"]: c for c in result.document["candidates"]}
    assert [file.id for file in result.candidates] == list(known)
    for file in result.candidates:
        own = known[file.id]
        assert file.recipe.to_json() == own["recipe"]
        assert file.score.val == own["score"]["val"]
        assert file.latency_ms.ratio_next_high == own["latency_ms"]["ratio_next_high"]
        assert file.loss is not None
        assert file.loss.points == own["loss"]["points"]
        verdict = file.verdicts["latency"]
        assert verdict is not None
        assert verdict.answer == own["verdicts"]["latency"]["answer"]
        assert file.verdicts["memory"] is None, "no such limit was given"


def test_the_front_is_the_fastest_first_and_the_recommended_file_is_one_of_the_files(result: SearchResult) -> None:
    assert {file.id for file in result.front} == {c["id"] for c in result.document["candidates"] if c["on_front"]}
    speedups = [file.speedup for file in result.front]
    assert speedups == sorted(speedups, reverse=True)
    assert result.recommended in result.candidates
    assert result.recommended is not None
    assert result.recommended.speedup >= 4
    assert result.nearest is None
    assert result.status == "feasible"
    assert result.model == result.folder / "recommended" / "model.onnx"
    assert (result.reference.id, result.reference.speedup) == ("reference", 1.0)


def test_where_nothing_meets_the_budget_the_nearest_file_is_named(results: dict[float, SearchResult]) -> None:
    result = results[500]
    assert (result.status, result.recommended) == ("infeasible", None)
    assert result.nearest is not None
    assert result.model == result.folder / "nearest" / "model.onnx"
    assert f"nearest {result.nearest.techniques} at {result.nearest.speedup:.2f}x" in repr(result)
    assert result.conclusion.startswith("Nothing is known to meet the budget")


def test_a_result_says_in_a_line_what_it_is(result: SearchResult) -> None:
    assert result.recommended is not None
    said = repr(result)
    assert said.startswith(f"SearchResult({str(result.folder)!r}: feasible, {len(result.candidates)} files, ")
    assert f"recommended {result.recommended.techniques} at {result.recommended.speedup:.2f}x" in said
    assert "\n" not in said
    assert len(repr(result.recommended)) < 160


def test_a_notebook_shows_the_front_with_the_recommended_file_marked(result: SearchResult) -> None:
    table = result._repr_html_()
    rows = re.findall(r"<tr.*?</tr>", table)[1:]
    assert len(rows) == len({*(f.id for f in result.front), "reference", result.document["recommended"]})
    (marked,) = (row for row in rows if "→" in row)
    chosen = html.row_of(next(p for p in html.points_of(result.document) if p["role"]), result.document)
    assert chosen["name"] in marked
    assert chosen["val"] in marked
    assert result.conclusion in table
    assert not re.search(r"https?:|<script|src=|<link|@import|url\(", table), "nothing is fetched"


def test_names_in_a_notebook_cannot_act(result: SearchResult) -> None:
    table = SearchResult(result.folder, result.document | {"task": EVIL, "metric": EVIL})._repr_html_()
    assert EVIL not in table
    assert "&lt;script&gt;" in table


def test_the_plot_draws_the_front_in_colours_of_its_own(result: SearchResult) -> None:
    figure = result.plot()
    traces = {trace.name: trace for trace in figure.data}
    front = traces["Pareto front"]
    assert sorted(front.x) == pytest.approx(sorted(file.latency_ms.p90 for file in result.front), rel=0.2)
    assert len(front.y) == len(result.front)
    assert {"recommended", "reference"} <= traces.keys()
    assert "var(" not in figure.to_json(), "a notebook knows no variables of the report's page"


def test_what_was_explained_is_what_the_command_explains(result: SearchResult) -> None:
    assert result.explanation["alone"]
    assert all(isinstance(line, str) for lines in result.explanation.values() for line in lines)


def test_a_run_of_an_earlier_version_can_be_loaded(tmp_path: Path) -> None:
    shutil.copytree(EARLIER, tmp_path / "run")
    result = load_result(tmp_path / "run")
    document = json.loads((EARLIER / "front.json").read_text())
    assert result.recommended is not None
    assert result.recommended.id == document["recommended"]
    assert result.recommended.latency_ms.quiet_sessions is None, "it did not say"
    assert len(result.candidates) == len(document["candidates"])
    assert result.front
    assert result.plot().data
    assert "→" in result._repr_html_()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run in"):
        load_result(tmp_path)


def test_results_and_files_can_be_kept_in_sets_and_do_not_change(result: SearchResult) -> None:
    assert len({result, SearchResult(result.folder, result.document)}) == 1
    assert len(set(result.candidates)) == len(result.candidates)
    file: Any = result.reference
    with pytest.raises(AttributeError):
        file.feasible = True

"""Several runs beside each other: what each recommends, what differs, and what may share an axis."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autocompress.cli import report_command
from autocompress.errors import UsageError
from autocompress.report.comparison_page import write_comparison
from autocompress.report.comparison_text import print_comparison
from autocompress.report.recorded import Recorded
from autocompress.report.runs import ReportedRun, compare_runs
from tests.report.pages import EVIL, LINK, Page, budget, document

RUN = Path(__file__).parent.parent / "fixtures" / "finished_run"
PROFILE = {"name": "cpu", "runtime": "onnxruntime", "threads": 1, "batch": 1}
MACHINE = {"processor": "Some CPU", "cores": 2, "instructions": ["avx2"]}
PARTS = {"metric": "aa", "train": "bb"}


@pytest.fixture
def compared(tmp_path: Path) -> Callable[..., tuple[dict[str, Any], Page]]:
    """``compared({}, {"seed": 8})``: the comparison of runs that differ so, and its page. parts: of the tasks."""

    def compare(*changes: dict[str, Any], parts: tuple[dict[str, str], ...] = ()) -> tuple[dict[str, Any], Page]:
        own = {"environment": {"profile": PROFILE, "machine": MACHINE}, "minutes": 15}
        runs = [
            ReportedRun(
                more.pop("name", f"run{n}"),
                tmp_path / f"run{n}",
                document(**(own | more)),
                Recorded(parts=parts[n] if parts else PARTS),
            )
            for n, more in enumerate(map(dict, changes))
        ]
        found = compare_runs(runs)
        write_comparison(runs, found, tmp_path / "comparison.html")
        return json.loads(json.dumps(found)), Page((tmp_path / "comparison.html").read_text("utf-8"))

    return compare


Compared = Callable[..., tuple[dict[str, Any], Page]]


def test_two_budgets_share_a_chart_in_milliseconds_and_what_differs_is_told(compared: Compared) -> None:
    found, page = compared({}, {"budget": budget(0.3), "recommended": "int8", "minutes": 5})
    assert (found["latency_axis"], found["score_axis"], found["said"]) == ("ms", "score", [])
    assert found["differences"] == {"budget": ["0.2 ms (p90)", "0.3 ms (p90)"], "minutes given": ["15", "5"]}
    assert found["same"]["processor"] == "Some CPU"
    assert [run["techniques"] for run in found["runs"]] == ["prune_channels + quantize_static", "quantize_static"]
    traces = page.traces()
    assert traces["run0"]["x"] == traces["run1"]["x"] == [0.125, 0.25]
    assert traces["recommended, run1"]["x"] == [0.25]
    assert traces["run0"]["error_y"]["array"] == pytest.approx([0.6, 0.6])
    assert [shape["x0"] for shape in page.figure["layout"]["shapes"]] == [0.2, 0.3]
    assert "latency p90, ms" in page.figure["layout"]["xaxis"]["title"]["text"]
    assert "minutes given 15 5" in page.text


OTHER = {"environment": {"profile": PROFILE, "machine": MACHINE | {"processor": "Another CPU"}}}


@pytest.mark.parametrize(
    "other",
    [OTHER, {"environment": {"profile": PROFILE | {"threads": 2}, "machine": MACHINE}}],
    ids=["another device", "another profile"],
)
def test_milliseconds_of_two_devices_share_no_axis_and_that_is_said(other: dict[str, Any], compared: Compared) -> None:
    found, page = compared({}, other)
    assert found["latency_axis"] == "ratio"
    assert "milliseconds of one are not comparable with those of another" in page.text
    assert page.traces()["reference, run0"]["x"] == [1.0]
    assert page.traces()["run0"]["x"] == pytest.approx([0.125 / 0.8, 0.25 / 0.8])
    assert "ms" not in page.figure["layout"]["xaxis"]["title"]["text"]
    assert page.figure["layout"]["shapes"][0]["x0"] == pytest.approx(0.25)


def test_scores_of_two_tasks_share_no_axis_and_it_is_said_what_differs(compared: Compared) -> None:
    found, page = compared({}, {}, parts=(PARTS, PARTS | {"train": "cc"}))
    assert found["score_axis"] == "change"
    assert "run0 and run1 are not of one task: its training data differ." in page.text
    assert page.traces()["reference, run0"]["y"] == [0.0]
    assert page.traces()["run0"]["y"] == pytest.approx([-0.28, 0.07])


def test_without_a_record_a_task_is_told_by_its_looks_and_that_is_said(compared: Compared) -> None:
    found, _ = compared({}, {}, parts=(PARTS, {}))
    assert found["score_axis"] == "score"
    assert "is told from its name, its metric and its reference alone" in found["said"][0]
    other, _ = compared({}, {"task": "mnist"}, parts=(PARTS, {}))
    assert other["score_axis"] == "change"


def test_two_metrics_are_in_no_chart(compared: Compared) -> None:
    found, page = compared({}, {"metric": "f1"}, parts=(PARTS, {"metric": "dd"}))
    assert found["score_axis"] is None
    assert "no chart puts their scores side by side" in page.text
    assert not [a for a in page.attributes("script") if "data-for" in a]
    assert "validation" in page.text


def test_a_reference_that_was_slower_on_the_same_target_is_told(compared: Compared) -> None:
    reference = document()["reference"]
    slower = reference | {"latency_ms": reference["latency_ms"] | {"p90": 1.0, "p50": 0.9}}
    found, _ = compared({}, {"reference": slower})
    assert "the reference took 0.8 ms in run0, 1 ms in run1: the machine was in another state" in found["said"][0]


def test_a_run_that_recommends_nothing_is_shown_with_its_nearest(compared: Compared) -> None:
    found, page = compared({}, {"recommended": None, "nearest": "int8"}, {"recommended": None, "candidates": []})
    assert [run["role"] for run in found["runs"]] == ["recommended", "nearest", None]
    assert "Nothing is known to meet the budget" in found["runs"][1]["conclusion"]
    assert "nearest, run1" in page.traces()
    assert "Nothing could be measured." in page.text


@pytest.mark.parametrize("name", [EVIL, LINK, "[red]run[/red]", "</script><b>"])
def test_names_of_runs_are_inert_on_the_page_and_in_the_terminal(
    name: str, compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    found, page = compared({"name": name, "task": name, "profile": name}, {"metric": "accuracy"})
    _, clean = compared({}, {"task": "other"})
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in clean.elements}
    assert len(page.scripts) == len(clean.scripts)
    assert name in page.text
    assert not [t for t in page.traces() if "<" in t]
    print_comparison(Console(width=400), found)
    assert name in capsys.readouterr().out


def test_the_command_compares_folders_and_writes_over_no_other_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [shutil.copytree(RUN, tmp_path / name) for name in ("before", "after #1")]
    front = json.loads((runs[1] / "front.json").read_text())
    (runs[1] / "front.json").write_text(json.dumps(front | {"seed": 5}))
    report_command(runs[1:])
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    report_command([Path("before"), Path("after #1")], as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["differences"] == {"seed": [str(front["seed"]), "5"]}
    page = Page((tmp_path / "comparison.html").read_text("utf-8"))
    assert [a["href"] for a in page.attributes("a")] == ["after%20%231/report.html"]
    report_command([Path("before"), Path("after #1")])
    assert "What differs" in capsys.readouterr().out
    (tmp_path / "comparison.html").write_text("<title>mine</title>")
    with pytest.raises(UsageError, match=r"comparison.html is no report of autocompress"):
        report_command(runs)

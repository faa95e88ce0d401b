"""The table of every candidate: what it can be sorted and filtered by, and where its links lead."""

from pathlib import Path
from typing import Any

import pytest

from autocompress.report.html import write_report
from tests.report.pages import Page, candidate, document, rows_of


def rendered(folder: Path, **changes: Any) -> Page:
    write_report(document(**changes), folder / "report.html")
    return Page((folder / "report.html").read_text("utf-8"))


def test_everything_that_was_tried_is_a_row_that_can_be_filtered_by_what_became_of_it(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    rows = rows_of(page)
    assert [row["states"] for row in rows] == [
        ["front", "meets"],
        ["front", "outside"],
        ["outside"],
        ["outside"],
        *[["rejected"]] * 2,
        *[["failed"]] * 3,
    ]
    offered = [attributes["value"] for attributes in page.attributes("option")]
    assert set(offered) == {"", *(state for row in rows for state in row["states"])}
    for said in ("all (9)", "on the front (2)", "rejected, never scored (2)", "failed (3)", "9 found"):
        assert said in page.text
    assert "over the budget (5.0 ms)" in rows[4]["text"]
    assert rows[4]["text"].startswith("lowrank rejected lowrank (rank 5.0)")


def test_every_column_has_a_button_and_sorts_by_numbers_of_the_metric_not_of_its_text(tmp_path: Path) -> None:
    page = rendered(tmp_path)
    rows = rows_of(page)
    buttons = [a for a in page.attributes("button") if "data-more" not in a]
    headings = [a for a in page.attributes("th") if "aria-sort" in a]
    assert len(buttons) == len(headings) == 13
    assert {len(row["values"]) for row in rows} == {12}, "and the recipe"
    both = rows[0]["values"]
    assert both[:2] == pytest.approx([0.9312, 0.9301])
    assert both[3:6] == pytest.approx([0.1125, 0.125, 6.4])
    assert both[6] == "int8 static"
    assert both[7:10] == pytest.approx([2_810_000, 696_000, 81_000_000])
    assert rows[-1]["values"] == [None] * 12, "nothing is known of what failed"
    assert rows[4]["values"][4] == 5.0, "of what was rejected, its latency is"


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_score_comes_first_whichever_way_the_metric_goes(maximize: bool, tmp_path: Path) -> None:
    page = rendered(tmp_path, metric="f1", maximize=maximize)
    buttons = [a for a in page.attributes("button") if "data-more" not in a]
    assert ("data-descending" in buttons[1]) is maximize
    assert ("data-descending" in buttons[3]) is maximize, "and so the least loss, whose sign is the metric's own"
    assert rows_of(page)[0]["values"][2] == (-0.2 if maximize else 0.2)


def test_what_can_be_opened_is_linked_and_nothing_else(tmp_path: Path) -> None:
    hostile = ["javascript:alert(1)", "/etc/hostname", "candidates/a b#?/model.onnx"]
    made = [candidate(f"h{n}", 0.92, 0.15, artifact=name, on_front=False) for n, name in enumerate(hostile)]
    for name in ("candidates/both/model.onnx", "candidates/both/recipe.toml", hostile[2]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("here")
    page = rendered(tmp_path, candidates=[*document()["candidates"], *made])
    links = [link for row in rows_of(page) for link in row["links"]]
    assert links == [
        "candidates/both/model.onnx",
        "candidates/both/recipe.toml",
        "candidates/a%20b%23%3F/model.onnx",
    ]
    assert "5 of the 7 files that were measured are not in this folder any more." in page.text


def test_the_front_over_time_ends_with_the_front_and_says_when_the_model_was_there(tmp_path: Path) -> None:
    found = document()["candidates"]
    for c, seconds in zip(found, (0.0, 50.0, 100.0, 20.0), strict=True):
        c["elapsed_s"] = seconds
    page = rendered(tmp_path, candidates=found)
    figure = page.data(data_for="over-time-chart")
    assert [trace["name"] for trace in figure["data"]] == ["after 25 s", "after 50 s", "after 1 min 40 s"]
    assert figure["data"][0]["x"] == [0.3, 0.8]
    assert figure["data"][-1]["x"] == page.traces()["Pareto front"]["x"]
    assert "The recommended file was there after 1 min 40 s of the 12 min 34 s that the search took." in page.text
    at_once = [c | {"elapsed_s": 0.0} for c in found]
    assert "over time" not in rendered(tmp_path, candidates=at_once).text


def test_where_the_time_went_is_told_with_the_share_of_each(tmp_path: Path) -> None:
    page = rendered(tmp_path, spent_seconds={"train": 300.0, "score": 100.0, "measure_beside": 40.0})
    assert "train training 5 min 0 s 75 %" in page.text
    assert "measure_beside timing files, while workers went on: not part of the sum 40 s 10 %" in page.text
    assert "Where the time went" not in rendered(tmp_path).text

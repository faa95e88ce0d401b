"""A run with parts that are missing, damaged or hostile: the report says what is there and what is not."""

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from autocompress.cli import explain_command, report_command
from autocompress.errors import UsageError
from autocompress.report.html import write_report
from tests.report.pages import EVIL, Page, candidate, document

RUN = Path(__file__).parent.parent / "fixtures" / "finished_run"
FATAL = {"schema", "task", "reference", "candidates", "recommended", "nearest"}  # no front.json at all
JUNK: list[Any] = [None, 7, "text", [], ["x"], {}, {"x": 1}, float("nan"), EVIL]


def rendered(folder: Path, whole: dict[str, Any]) -> Page:
    write_report(whole, folder / "report.html")
    return Page((folder / "report.html").read_text("utf-8"))


@pytest.mark.parametrize("key", sorted(document().keys() - FATAL - {"status"}))
def test_an_entry_that_is_gone_is_told_and_the_others_are_shown(key: str, tmp_path: Path) -> None:
    whole = document()
    del whole[key]
    text = rendered(tmp_path, whole).text
    assert f"front.json does not say: {key}." in text
    assert "93.12 %" in text or "0.9312" in text


@pytest.mark.parametrize(
    "key", sorted({*json.loads((RUN / "front.json").read_text()), "by_class", "advice", "minutes"})
)
def test_an_entry_of_any_other_kind_ends_no_report(key: str, tmp_path: Path) -> None:
    for junk in JUNK:
        whole = document()
        whole[key] = junk
        if key == "reference":
            with pytest.raises(UsageError, match=r"^the reference in front\.json cannot be read"):
                rendered(tmp_path, whole)
        else:
            assert EVIL not in rendered(tmp_path, whole).source


def paths(entry: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Of all keys of nested dicts."""
    for key, value in entry.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *below) for below in paths(value))


@pytest.mark.parametrize("path", [path for path in paths(candidate("x", 0.9, 0.1)) if len(path) > 1], ids=".".join)
def test_candidates_with_something_damaged_inside_end_no_report(path: tuple[str, ...], tmp_path: Path) -> None:
    *above, key = path
    whole = document()
    for number, junk in enumerate([*JUNK, "gone"]):
        damaged = candidate(f"damaged{number}", 0.93, 0.15)
        inner: Any = reduce(getitem, above, damaged)
        if junk == "gone":
            del inner[key]
        else:
            inner[key] = copy.deepcopy(junk)
        whole["candidates"].append(damaged)
    page = rendered(tmp_path, whole)
    assert "student: out of memory" in page.text
    assert "Recommended:" in page.text
    assert EVIL not in page.source


@pytest.mark.parametrize("key", sorted(candidate("x", 0.9, 0.1).keys()))
def test_a_candidate_that_lacks_something_is_left_out_or_shown_without_it(key: str, tmp_path: Path) -> None:
    for junk in [*JUNK, "gone"]:
        whole = document()
        broken = whole["candidates"][2]
        if junk == "gone":
            del broken[key]
        else:
            broken[key] = junk
        page = rendered(tmp_path, whole)
        assert "student: out of memory" in page.text
        if "is not among those that can be read" in page.text:
            assert "Recommended:" not in page.text, "nothing is said of what cannot be read"


def test_a_recommendation_that_is_gone_is_not_said_to_be_none(tmp_path: Path) -> None:
    whole = document()
    del whole["candidates"][2]["latency_ms"]["ratio"]
    text = rendered(tmp_path, whole).text
    assert "Of candidates in front.json 1 cannot be read and are left out, as KeyError: 'ratio'." in text
    assert "The recommended candidate, both, is not among those that can be read." in text
    assert "What was recommended is not among the candidates that can be read." in text
    assert "Nothing is" not in text
    assert "The recommended recipe" not in text


def test_a_single_candidate_is_a_report(tmp_path: Path) -> None:
    whole = document()
    whole["candidates"] = whole["candidates"][2:3]
    page = rendered(tmp_path, whole)
    assert "the only one that meets the budget" in page.text
    assert "all (7)" in page.text, "the reference, this one and what was rejected or failed"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(RUN, tmp_path / "run")


def removed(*names: str) -> Callable[[Path], None]:
    def remove(run: Path) -> None:
        for name in names:
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()

    return remove


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (removed("recommended", "candidates"), "Missing of what was delivered: recommended/model.onnx"),
        (removed("candidates", "store", "reference"), "files that were measured are not in this folder any more"),
        (removed("study.db"), "study.db is missing"),
        (removed("worker.log", "store"), "was written by another version of autocompress"),
    ],
    ids=["no models", "no candidates", "no study", "another version"],
)
def test_a_folder_with_parts_deleted_is_reported_with_what_is_missing(
    spoil: Callable[[Path], None], said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(run)
    report_command([run])
    page = Page((run / "report.html").read_text("utf-8"))
    assert said in page.text
    assert "1.66x faster than the reference" in page.text
    explain_command(run)
    assert "Recommended: student + distill_logits" in capsys.readouterr().out


def test_a_folder_without_its_front_is_no_run(run: Path) -> None:
    (run / "front.json").unlink()
    with pytest.raises(UsageError, match=r"^no run in .*give the --out folder of a search$"):
        report_command([run])

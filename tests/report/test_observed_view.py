"""What observers are told of a search in which nothing is computed."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autocompress.budget import Budget
from autocompress.candidate.silence import STDOUT, silent
from autocompress.errors import Interrupted, UsageError
from autocompress.explore.opening.identity import Settings
from autocompress.explore.space.space_file import SpaceFile
from autocompress.measured_file import MeasuredFile
from autocompress.plugin.contract import (
    FamilyTrained,
    FileMeasured,
    FrontChanged,
    Observer,
    PhaseBegan,
    SearchEvent,
    SearchFinished,
    SearchStarted,
    TaskOpened,
)
from autocompress.profile import HardwareProfile
from autocompress.report.json_lines import JsonLines
from autocompress.report.observed_view import ObservedView
from autocompress.report.terminal import TerminalView
from tests.recordings import kinds
from tests.recordings.harness import Ended, Kept, searched
from tests.recordings.scenarios import Process, Scenario

BUDGET = Budget(speedup=4)


class Told(list[Any], Observer):
    name = "told"

    def observe(self, event: SearchEvent) -> None:
        self.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]


def observed(folder: Path, observers: Sequence[Observer], shown: TerminalView | None = None) -> ObservedView:
    settings = Settings(BUDGET, 8, None, 0, HardwareProfile(name="cpu"), SpaceFile(name="all"), folder)
    shown = shown or TerminalView(Console(quiet=True))
    return ObservedView(shown, observers, shown.note, "my_task.py", settings, lambda: 1.0)


@dataclass(frozen=True)
class Watched:
    told: Told
    lines: list[dict[str, Any]]
    ended: Ended


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A whole search, observed twice: as events, and as lines."""
    root, told, stream = tmp_path_factory.mktemp("run"), Told(), StringIO()
    with observed(root, [told, JsonLines(stream)]) as view:
        (ended,) = searched(Scenario("search", kinds.CNN, (Process(8),), BUDGET), root, view=view)
        view.delivered(ended.front)
    return Watched(told, [json.loads(line) for line in stream.getvalue().splitlines()], ended)


def ids(files: Sequence[MeasuredFile]) -> list[str]:
    return [file.id for file in files]


def test_the_story_is_told_in_order(watched: Watched) -> None:
    started, opened, *_, last = watched.told
    assert (started.task, started.profile, started.budget["speedup"]) == ("my_task.py", "cpu", 4)
    assert isinstance(opened, TaskOpened)
    assert opened.reference.score.val == watched.ended.front["reference"]["score"]["val"]
    assert "carve" in opened.strategies
    phases = [event.phase for event in watched.told.of(PhaseBegan)]
    assert phases == ["search", "finish"], "the first phase began before the search was there"
    assert isinstance(last, SearchFinished)


def test_every_file_is_told_of_once_with_its_recipe_and_score(watched: Watched) -> None:
    files = [event.file for event in watched.told.of(FileMeasured)]
    known = {c["id"]: c for c in watched.ended.front["candidates"]}
    assert sorted(ids(files)) == sorted(known)
    for file in files:
        assert file.recipe.to_json() == known[file.id]["recipe"]
        assert file.score.val_low <= file.score.val <= file.score.val_high
        assert file.latency_ms.ratio > 0
    later = [f for f in files if f.recipe.changes and f.on_front]
    assert later, "whether a file was on the front is known as it is told of"


def test_every_training_is_told_of(watched: Watched) -> None:
    trained = watched.told.of(FamilyTrained)
    calls = watched.ended.asked("evaluate")
    assert Counter(str(e.recipe) for e in trained) == Counter(c["recipe"] for c in calls if c["examples"])
    assert all(event.seconds > 0 and event.epochs > 0 for event in trained)


def test_the_front_is_told_of_when_it_changes(watched: Watched) -> None:
    fronts = [ids(event.front) for event in watched.told.of(FrontChanged)]
    assert len(fronts) > 1
    assert all(one != other for one, other in itertools.pairwise(fronts))
    assert set(fronts[-1]) == {c["id"] for c in watched.ended.front["candidates"] if c["on_front"]}


def test_at_the_end_stands_what_front_json_holds(watched: Watched) -> None:
    document, last = watched.ended.front, watched.told[-1]
    assert (last.status, last.reason) == ("feasible", "")
    assert last.recommended.id == document["recommended"]
    assert last.nearest is None
    assert last.delivered == last.front_json.parent / "recommended"
    ratios = [file.latency_ms.ratio for file in last.front]
    assert ratios == sorted(ratios)


def test_a_line_holds_the_name_of_an_event_and_its_fields(watched: Watched) -> None:
    assert [line["event"] for line in watched.lines] == [event.event for event in watched.told]
    measured = next(line for line in watched.lines if line["event"] == "measured")
    document = {c["id"]: c for c in watched.ended.front["candidates"]}[measured["file"]["id"]]
    assert measured["file"].keys() < document.keys(), "a file has the keys that it has in front.json"
    assert measured["file"]["latency_ms"].keys() < document["latency_ms"].keys()
    assert measured["file"]["verdicts"].keys() == document["verdicts"].keys()
    assert watched.lines[-1]["front_json"].endswith("front.json")


def test_a_search_that_goes_on_tells_first_what_was_found_before(tmp_path: Path) -> None:
    kept, told, again = Kept(), Told(), Told()
    for process, observer in ((Process(8, trials=1), told), (Process(16, trials=2), again)):
        with observed(tmp_path, [observer]) as view:
            searched(Scenario("search", kinds.CNN, (process,), BUDGET), tmp_path, kept, view)
    before = {event.file.id for event in told.of(FileMeasured)}
    first = [event.file.id for event in again.of(FileMeasured)][: len(before)]
    assert before == set(first)


@pytest.mark.parametrize(
    ("error", "status"), [(Interrupted("interrupted, everything is kept"), "interrupted"), (UsageError("no"), "failed")]
)
def test_how_a_search_ended_before_its_end_is_told_with_the_reason(
    error: Exception, status: str, tmp_path: Path
) -> None:
    told = Told()
    with pytest.raises(type(error)), observed(tmp_path, [told]):
        raise error
    assert (told[-1].status, told[-1].reason) == (status, str(error))
    assert told[-1].front_json is None
    assert told[-1].recommended is None


def test_an_observer_that_fails_costs_the_search_nothing_and_is_named(tmp_path: Path) -> None:
    class Failing(Told):
        name = "failing"

        def observe(self, event: SearchEvent) -> None:
            raise OSError("no route to host")

    said = StringIO()
    shown = TerminalView(Console(file=said, width=300))
    with observed(tmp_path / "a", [Failing()], shown) as view:
        (ended,) = searched(Scenario("search", kinds.CNN, (Process(8, 2),), BUDGET), tmp_path / "a", view=view)
        view.delivered(ended.front)
    (alone,) = searched(Scenario("search", kinds.CNN, (Process(8, 2),), BUDGET), tmp_path / "b")
    assert (
        said.getvalue().count("the observer failing failed and is told nothing more (OSError: no route to host)") == 1
    )
    assert ended.front == alone.front


def test_lines_at_standard_output_are_written_while_exporters_print_to_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open(STDOUT, "w", closefd=False) as stream:
        lines = JsonLines(stream)
        with silent():
            os.write(STDOUT, b"of an exporter")
            lines.observe(SearchStarted(0.0, "my_task.py", tmp_path, "cpu", {}, {}))
    assert json.loads(capfd.readouterr().out)["event"] == "started"

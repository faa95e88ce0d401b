"""What is shown where the output is no terminal."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from autocompress.budget import Budget
from autocompress.report import terminal
from autocompress.report.terminal import TerminalView, print_front
from tests.recordings import kinds
from tests.recordings.harness import searched
from tests.recordings.scenarios import Process, Scenario
from tests.report.pages import document


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a cell of a notebook displays, as text."""
    shown: list[str] = []
    package, module = ModuleType("IPython"), ModuleType("IPython.display")

    def display(one: Any) -> None:
        shown.append(one._repr_mimebundle_(["text/plain", "text/html"], [])["text/plain"])

    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_a_notebook_is_told_of_progress_and_of_the_front_in_its_cell(
    cell: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "PLAIN_EVERY_S", 0.0)
    console = Console(force_jupyter=True, width=120)
    with TerminalView(console) as view:
        view.doing("train", 0.5)
        (ended,) = searched(Scenario("search", kinds.CNN, (Process(8, 2),), Budget(speedup=3)), tmp_path, view=view)
        view.note("a line that stays")
    print_front(console, ended.front, "run")
    assert any("tried, " in text and "left" in text for text in cell), "how far it has come"
    assert "a line that stays\n" in cell
    assert any("Recommended: " in text for text in cell)
    assert capsys.readouterr() == ("", ""), "nothing goes around the cell"


@pytest.mark.parametrize(("recommended", "said"), [("both", "To deploy: runs/x/recommended/"), (None, "The nearest, ")])
def test_the_end_says_which_file_to_take_and_what_to_look_at(recommended: str | None, said: str) -> None:
    console = Console(record=True, width=80)
    whole = document(recommended=recommended, nearest=None if recommended else "both")
    print_front(console, whole, "runs/x")
    *_, file, report, why = console.export_text().strip().splitlines()
    assert file.startswith(said)
    assert file.endswith("/model.onnx")
    assert report == "To look at: runs/x/report.html"
    assert why == "Why this one: autocompress explain runs/x"


def test_a_metric_that_is_called_as_another_column_is_shown_beside_it() -> None:
    console = Console(record=True, width=120)
    print_front(console, document(metric="precision"), "runs/x")
    (row,) = (line for line in console.export_text().splitlines() if "→  " in line)
    assert "0.9312 " in row
    assert "int8 static" in row

"""The working folder's settings, and the command line on top of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.cli import search_command
from autocompress.errors import UsageError
from autocompress.settings import read_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_a_folder_without_settings_gives_back_what_was_given(folder: Path):
    assert read_settings(folder, {"seed": 3}) == {"seed": 3}


def test_a_pyproject_of_another_tool_is_no_setting(folder: Path):
    (folder / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert read_settings(folder, {}) == {}


def test_autocompress_toml_is_read_with_dashes_or_underscores(folder: Path):
    (folder / "autocompress.toml").write_text('task = "t.py:task"\nbudget-ms = 2\nmax_drop = 0.5\ntrials = 3\n')
    assert read_settings(folder, {}) == {"task": "t.py:task", "budget_ms": 2, "max_drop": 0.5, "trials": 3}


def test_tool_table_of_pyproject_is_read(folder: Path):
    (folder / "pyproject.toml").write_text('[tool.autocompress]\nspeedup = 4.0\nprofile = "cpu"\n')
    assert read_settings(folder, {}) == {"speedup": 4.0, "profile": "cpu"}


def test_autocompress_toml_comes_before_pyproject(folder: Path):
    (folder / "autocompress.toml").write_text("seed = 1\n")
    (folder / "pyproject.toml").write_text("[tool.autocompress]\nseed = 2\nminutes = 5\n")
    assert read_settings(folder, {}) == {"seed": 1}


def test_command_line_wins_and_the_rest_stays(folder: Path):
    (folder / "autocompress.toml").write_text('seed = 1\nout = "here"\n')
    assert read_settings(folder, {"seed": 9, "minutes": 2.0}) == {"seed": 9, "minutes": 2.0, "out": "here"}


@pytest.mark.parametrize(("kept", "given"), [("speedup", "budget_ms"), ("budget-ms", "speedup")])
def test_given_budget_replaces_the_folders_of_either_kind(folder: Path, kept: str, given: str):
    (folder / "autocompress.toml").write_text(f"{kept} = 4\nmax-drop = 2\n")
    assert read_settings(folder, {given: 3.0}) == {given: 3.0, "max_drop": 2}


@pytest.mark.parametrize("file", ["autocompress.toml", "pyproject.toml"])
@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("budgt_ms = 1", r"unknown key 'budgt_ms': did you mean 'budget_ms'\?"),
        ("trials = 1.5", "trials must be int, not 1.5"),
        ('observe = "mlflow"', "observe must be list, not 'mlflow'"),
        ("trials = true", "trials must be int, not True"),
        ('minutes = "five"', "minutes must be int or float, not 'five'"),
        ("profile = 3", "profile must be str, not 3"),
        ("seed = ", "cannot be read"),
    ],
)
def test_mistake_names_the_file_and_the_key(file: str, line: str, cause: str, folder: Path):
    (folder / file).write_text(f"[tool.autocompress]\n{line}\n" if file == "pyproject.toml" else f"{line}\n")
    with pytest.raises(UsageError, match=cause) as caught:
        read_settings(folder, {})
    assert str(folder / file) in str(caught.value)


@pytest.mark.parametrize("text", ['[tool]\nautocompress = "x"\n', "tool = 3\n"])
def test_table_that_is_no_table_is_refused(text: str, folder: Path):
    (folder / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        read_settings(folder, {})


@pytest.mark.parametrize("shared", [False, True])
def test_search_without_arguments_says_where_its_task_comes_from_before_it_runs_it(
    shared: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = folder / ("pyproject.toml" if shared else "autocompress.toml")
    path.write_text(("[tool.autocompress]\n" if shared else "") + 'task = "my_task.py:task"\n')
    said: list[str] = []

    def search(task: str, **options: Any) -> Any:
        said.append(capsys.readouterr().out)
        return SimpleNamespace(recommended=task)

    monkeypatch.setattr("autocompress.api.search", search)
    monkeypatch.chdir(folder)
    search_command()
    search_command(quiet=True)
    search_command("other.py:task")
    source = f"[tool.autocompress] of {path}" if shared else path
    assert said == [f"Task my_task.py:task, as {source} says.\n", "", ""]

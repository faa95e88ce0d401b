"""What a shell is offered after a tab, by the command as it is installed, without a second of waiting."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from autocompress.completion import profile_names, run_folders, space_names, task_files
from autocompress.profile import installed_profiles

HEAVY = ("torch", "optuna", "onnx", "onnxruntime", "numpy")
COMPLETED = """
import sys
sys.argv = ["autocompress"]
from autocompress.cli import main
try:
    main()
finally:
    print([m for m in {heavy} if m in sys.modules], file=sys.stderr)
"""


def completed(words: str, cwd: Path) -> list[str]:
    """The answers of bash's completion at the end of a line."""
    shell = {"_AUTOCOMPRESS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = [sys.executable, "-c", COMPLETED.format(heavy=HEAVY)]
    done = subprocess.run(code, cwd=cwd, env=os.environ | shell, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]", "completion imports what is heavy"
    return done.stdout.split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With two runs, a task and what is neither."""
    monkeypatch.chdir(tmp_path)
    for run in ("runs/digits", "elsewhere/fashion"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "study.db").touch()
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "my_task.py").write_text("from autocompress import Task\n")
    (tmp_path / "setup.py").write_text("import setuptools\n")
    (tmp_path / "board.toml").write_text('name = "board"\n')
    return tmp_path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("autocompress ins", ["inspect"]),
        ("autocompress search --dry", ["--dry-run"]),
        ("autocompress verify runs/", ["runs/digits"]),
        ("autocompress search --space sm", ["smallest"]),
    ],
)
def test_a_shell_is_offered_commands_options_and_names(words: str, offered: list[str], folder: Path) -> None:
    assert completed(words, folder) == [*offered, *(["runs/notes/"] if words.endswith("runs/") else [])]


def test_profiles_and_spaces_come_with_files_of_ones_own(folder: Path) -> None:
    assert profile_names("") == [*installed_profiles(), "board.toml"]
    assert profile_names("cpu-") == [name for name in installed_profiles() if name.startswith("cpu-")]
    assert {"default", "smallest", "board.toml"} <= set(space_names(""))


def test_runs_are_found_where_searches_put_them_and_below_what_is_typed(folder: Path) -> None:
    assert run_folders("") == ["runs/digits"]
    assert run_folders("elsewhere/") == ["elsewhere/fashion"]
    assert run_folders("nowhere/") == []


def test_files_are_offered_as_tasks_that_name_one(folder: Path) -> None:
    assert task_files("") == ["my_task.py"]


def test_the_script_that_is_installed_can_be_shown() -> None:
    show = f"{shlex.quote(sys.executable)} -m autocompress --show-completion; exit $?"  # of the shell that asks
    done = subprocess.run(["bash", "-c", show], capture_output=True, text=True, check=True)
    assert "COMP_WORDS" in done.stdout

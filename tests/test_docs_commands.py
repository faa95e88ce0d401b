"""The commands that the documents show are run, at a tiny setting, so that they stay true."""

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer
from safetensors.torch import save_file
from torch import nn

from autocompress import cli
from autocompress.plugin.loader import PluginSet
from tests.test_docs import PAGES
from tests.tiny_setting import TASK, Command, tiny_setting

NETWORK = """from torch import nn


def make_model():
    return nn.Linear(3, 2)
"""
STANDS_FOR = {"TASK": "my_task.py:task", "FILE:TASK": "my_task.py:task", "RUN": "runs/run", "MODEL": "model.onnx"}
STANDS_FOR |= {"SEED": "1", "text_lstm": "my_task.py:task"}
OTHERWISE = {  # where a word stands for what a machine of tests has not: the exit code, and what is said
    "hf": (2, "hf: needs transformers"),
    "timm": (2, "timm: needs timm"),
    "shelf": (2, "unknown hub 'shelf'"),
    "my_space.toml": (2, "unknown strategy 'entropy_penalty'"),
    "board.toml": (2, "cannot read the token file token"),
    "mnn-cpu": (3, "nearest/model.onnx"),
}
AMOUNTS = {"--minutes", "--seed", "--seconds"}  # which change what is found, and nothing of how
SET_UP = {"--install-completion", "--show-completion"}  # of a user's own shell: tests/test_completion.py


def commands_shown() -> list[list[str]]:
    """The words of every command line of autocompress in the pages, in blocks and between backticks; ``[--option]``
    as an option, and without what a page leaves open.
    """
    found: dict[tuple[str, ...], None] = {}
    for page in PAGES:
        text = page.read_text("utf-8")
        lines = [
            line.split("#")[0]
            for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
            if not language
            for line in block.splitlines()
        ]
        without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        lines += re.findall(r"`(autocompress [^`\n]+)`", without_blocks)
        for line in lines:
            for command in re.findall(r"(?:^|&& )autocompress ([^&|>]+)", line.strip()):
                found[tuple(shlex.split(command))] = None
    return [list(words) for words in found if words[0] != "..."]


def parsed(words: list[str]) -> None:
    """By the real command line, without running anything. Raises what a user would see."""
    pairs = zip(["", *words], words, strict=False)
    words = ["1" if before.startswith("--") and re.fullmatch("[A-Z]+", word) else word for before, word in pairs]
    group = typer.main.get_command(cli.app)
    whole = group.make_context("autocompress", list(words), resilient_parsing=not words[0].startswith("-"))
    name, command, rest = group.resolve_command(whole, list(words))  # type: ignore[attr-defined]
    command.make_context(name, rest, parent=whole)


def test_every_command_line_that_is_shown_is_one_that_the_command_line_takes() -> None:
    shown = [words for words in commands_shown() if len(words) > 1 and not words[0].startswith("-")]
    assert len(shown) >= 40
    refused = {}
    for words in shown:
        try:
            parsed(words)
        except Exception as error:  # of the library, whose classes are its own
            refused[" ".join(words)] = str(getattr(error, "format_message", lambda error=error: error)())
    assert refused == {}
    with pytest.raises(Exception, match="No such option"):
        parsed(["search", "my_task.py:task", "--no-such-option"])


def is_whole(words: Sequence[str]) -> bool:
    """Whether it can be typed so; a command that lacks an argument is spoken of."""
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    return len(words) > 1 or not any(parameter.required for parameter in commands[words[0]].params)


def kind(words: Sequence[str]) -> tuple[str, ...]:
    """What it has in common with those that differ from it in names and numbers alone."""
    options, runs = {w for w in words if w.startswith("--")}, [w for w in words if w.startswith("runs/")]
    return (words[0], *sorted(options - AMOUNTS), *filter(None, map(unusual, words)), f"{len(runs)} runs")


def unusual(word: str) -> str:
    """What in a word stands for something that a machine of tests has not; empty where there is nothing."""
    return next((name for name in OTHERWISE if re.match(rf"{re.escape(name)}(:|$)", word)), "")


KINDS = {kind(words): words for words in reversed(commands_shown()) if words[0] not in SET_UP and is_whole(words)}


@pytest.fixture(scope="module")
def command(installed_plugins: PluginSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    with tiny_setting(installed_plugins, tmp_path_factory.mktemp("cache")) as command:
        yield command


@pytest.fixture(scope="module")
def finished(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that a search of the tiny setting left."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "my_task.py").write_text(TASK)
    done = command(folder, "search", "my_task.py:task", "--speedup", "2", "--out", "run")
    assert done.code == 0, done.err
    return folder / "run"


@pytest.mark.parametrize("words", KINDS.values(), ids=shlex.join)
def test_a_command_that_is_shown_runs(words: list[str], command: Command, finished: Path, tmp_path: Path) -> None:
    """One of each kind. A page's names are those of small tasks, files and runs."""
    words = [STANDS_FOR.get(word, word) for word in words]
    for before, word in zip(["", *words], words, strict=False):
        if before != "--out":
            put(word, tmp_path, finished)
    done = command(tmp_path, *words)
    code, said = next((OTHERWISE[name] for name in map(unusual, words) if name), (0, ""))
    assert done.code == code, done.err
    assert done.out.strip() or code
    assert said in done.out + done.err


def put(word: str, folder: Path, finished: Path) -> None:
    """What a word of a command stands for, into the folder where it is typed: a project, a task, a file, a run."""
    path = folder / word.partition(":")[0]
    if word == "init":
        (folder / "net.py").write_text(NETWORK)
        save_file(nn.Linear(3, 2).state_dict(), folder / "net.safetensors")
    elif word.startswith("runs/"):
        if not (run := folder / "runs" / Path(word).parts[1]).exists():
            shutil.copytree(finished, run)
    elif path.suffix == ".py":
        path.parent.mkdir(exist_ok=True)
        path.write_text(TASK)
    elif path.suffix == ".onnx":
        path.parent.mkdir(exist_ok=True)
        shutil.copy(finished / "recommended" / "model.onnx", path)
    elif path.suffix == ".toml":
        blocks = (re.findall(r"```toml\n# (\S+)\n(.*?)```", page.read_text(), re.DOTALL) for page in PAGES)
        path.write_text(dict(reversed([block for found in blocks for block in found]))[word])


def test_every_kind_of_command_is_among_those_that_run() -> None:
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert {words[0] for words in KINDS.values()} == set(commands)

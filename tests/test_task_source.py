"""How a task is found in a file or module, and what is said where it is not."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autocompress.errors import UsageError
from autocompress.task_source import load_task

GOOD = """
import torch
from autocompress import Task

def task():
    x, y = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    return Task(name="mine", model=torch.nn.Linear(2, 2), train=(x, y), val=(x, y))
"""

Write = Callable[..., str]


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    """A task file goes onto the import path of its process: put back what it found."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and "pytest-of" in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "my_own_task.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("suffix", ["", ":task", ":"])
def test_task_file_is_loaded(suffix: str, write: Write):
    assert load_task(write(GOOD) + suffix).name == "mine"


def test_factory_of_another_name(write: Write):
    assert load_task(write(GOOD.replace("def task", "def small")) + ":small").name == "mine"


def test_task_object_instead_of_a_factory(write: Write):
    assert load_task(write(GOOD + "ready = task()\n") + ":ready").name == "mine"


@pytest.mark.parametrize("folder", ["with space", "ünïcode 漢", "a#b", "a?b"])
def test_path_with_odd_characters_works(folder: str, write: Write):
    assert load_task(write(GOOD, f"{folder}/odd_path_task.py")).name == "mine"


def test_task_file_imports_its_neighbours(write: Write):
    write("NAME = 'from the neighbour'\n", "neighbour_of_task.py")
    text = "from neighbour_of_task import NAME\n" + GOOD.replace('"mine"', "NAME")
    assert load_task(write(text)).name == "from the neighbour"


def test_module_path_works(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    write("", "package_of_tasks/__init__.py")
    write(GOOD, "package_of_tasks/inner.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_task("package_of_tasks.inner:task").name == "mine"
    assert load_task("package_of_tasks.inner").name == "mine"


def test_missing_file(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no task file .*gone\.py: give the path of a Python file"):
        load_task(f"{tmp_path}/gone.py:task")


def test_missing_module_and_what_is_no_module():
    with pytest.raises(UsageError, match="module no_such_module_here does not import: ModuleNotFoundError"):
        load_task("no_such_module_here:task")
    with pytest.raises(UsageError, match="'my-task' is neither a Python file nor a module"):
        load_task("my-task")


def test_syntax_error_names_the_line(write: Write):
    with pytest.raises(UsageError, match=r"my_own_task\.py does not import: SyntaxError \(line 3\)"):
        load_task(write("a = 1\nb = 2\ndef task(:\n    pass\n"))


def test_import_error_names_the_module_and_the_line(write: Write):
    with pytest.raises(UsageError, match=r"does not import: ModuleNotFoundError \(line 2\): .*no_such_library"):
        load_task(write("x = 1\nimport no_such_library\n"))


def test_missing_factory_names_the_ones_there(write: Write):
    text = "from os.path import join\ndef small(): ...\ndef large(): ...\ndef _helper(): ...\n"
    with pytest.raises(UsageError, match=r"has no factory 'task': it has small, large; write `def task\(\)"):
        load_task(write(text))
    with pytest.raises(UsageError, match="has no factory 'task': it defines no function"):
        load_task(write("x = 1\n"))


def test_factory_that_raises_names_the_error_and_its_line(write: Write):
    with pytest.raises(UsageError, match=r"my_own_task\.py:task\(\) raised KeyError \(line 3\): 'weights'"):
        load_task(write("def task():\n    found = {}\n    return found['weights']\n"))


def test_usage_error_of_the_factory_is_passed_on(write: Write):
    text = "from autocompress.errors import UsageError\ndef task():\n    raise UsageError('give DATA=...')\n"
    with pytest.raises(UsageError, match=r"^give DATA=\.\.\.$"):
        load_task(write(text))


@pytest.mark.parametrize(("value", "kind"), [("None", "NoneType"), ("{'name': 1}", "dict"), ("lambda: 1", "function")])
def test_factory_that_returns_something_else(value: str, kind: str, write: Write):
    with pytest.raises(UsageError, match=rf"task\(\) returned {kind}, expected autocompress\.Task"):
        load_task(write(f"def task():\n    return {value}\n"))


@pytest.mark.parametrize("text", ["import sys\nsys.exit(0)\n", "import sys\ndef task():\n    sys.exit(0)\n"])
def test_task_file_that_exits_is_an_error(text: str, write: Write):
    with pytest.raises(UsageError, match="SystemExit"):
        load_task(write(text))

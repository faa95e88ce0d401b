"""Where a task comes from: the function of a file or a module that makes it."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from autocompress.errors import UsageError, one_line
from autocompress.task import Task


@dataclass(frozen=True)
class TaskSource:
    """Where a task came from. target: as a user gives it, from any folder. file: of its factory, or of the model's
    weights. digest: SHA-256 of what it is made of. others: the other files and folders that it is made of.
    """

    target: str
    file: str
    digest: str
    others: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, target: str) -> "TaskSource | None":
        """Of a task that can be loaded; None where its file cannot be told. Nothing is imported."""
        location, _, name = target.rpartition(":") if ":" in target else (target, "", "task")
        path = Path(location).resolve() if location.endswith(".py") else _module_file(location)
        if path is None or not path.is_file():
            return None
        there = str(path) if location.endswith(".py") else location
        return cls(f"{there}:{name or 'task'}", str(path), hashlib.sha256(path.read_bytes()).hexdigest())

    def refuse_another(self, run: Path, found: "TaskSource | None") -> None:
        """Raises UsageError when what would be loaded is not this file as it was, or came with the run, which somebody
        else may have made. found: where the target leads now.
        """
        give = "give the task as you did for the search"
        if found is None:
            raise UsageError(f"the task's file {one_line(self.file, 200)} is gone: {give}")
        if inside := next((path for path in (found.file, *found.others) if _lies_in(run, path)), None):
            raise UsageError(f"the task's file {one_line(inside, 200)} lies in the run: {give}, if it is yours")
        if found != self:
            target = one_line(self.target, 200)
            raise UsageError(f"{target} was changed since the run: {give}, and it is compared with the run's")


def _lies_in(folder: Path, path: str) -> bool:
    """Whether a file or folder is within another folder, or a link there, or a link to what is there."""
    root, named = folder.resolve(), Path(path)
    return any(each.is_relative_to(root) for each in (named.parent.resolve() / named.name, named.resolve()))


def _module_file(name: str) -> Path | None:
    """The file of ``package.module``, found without importing anything."""
    top, *rest = name.split(".")
    folders = [Path(folder or ".") for folder in ("", *sys.path)]
    for folder in folders:
        path = folder.joinpath(top, *rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file.resolve()
    return None


def load_task(target: str) -> Task:
    """The task of ``my_task.py:factory`` or ``package.module:factory`` (factory defaults to ``task``). Raises
    UsageError.
    """
    location, _, name = target.rpartition(":") if ":" in target else (target, "", "task")
    name = name or "task"
    module = _import_file(Path(location)) if location.endswith(".py") else _import_module(location)
    factory = getattr(module, name, None)
    if factory is None:
        found = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        known = [n for n in found if not n.startswith("_")]
        hint = f"it has {', '.join(known)}" if known else "it defines no function"
        raise UsageError(
            f"{location} has no factory {name!r}: {hint}; write `def {name}() -> Task:` or name another after ':'"
        )
    try:
        task = factory() if callable(factory) and not isinstance(factory, Task) else factory
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{location}:{name}() raised {type(error).__name__}{_where(error, location)}: {one_line(error)}"
        ) from error
    if not isinstance(task, Task):
        raise UsageError(f"{location}:{name}() returned {type(task).__name__}, expected autocompress.Task")
    return task


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(
            f"no task file {path}: give the path of a Python file with a task factory, as in my_task.py:task"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{path} does not import: {type(error).__name__}{_where(error, str(path))}: {one_line(error)}"
        ) from error
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is neither a Python file nor a module: give my_task.py:task or package.module:task")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"module {name} does not import: {type(error).__name__}: {one_line(error)}") from error


def _where(error: BaseException, location: str) -> str:
    """`` (line N)`` of the user's file where the error came from, when it is known."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    line, trace = None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == Path(location).name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""

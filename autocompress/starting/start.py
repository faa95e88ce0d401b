"""``init``: look at a folder, ask, write a task file."""

from dataclasses import dataclass
from pathlib import Path

from autocompress.errors import UsageError
from autocompress.starting.choice import Ask, choose
from autocompress.starting.project import look_at
from autocompress.starting.task_file import free_name, task_file, write_new

TASK_FILE = "my_task.py"


@dataclass(frozen=True)
class Started:
    """file: what was written. parts: what the task is made of, in words. notes: what to check in it."""

    file: Path
    parts: dict[str, str]
    notes: tuple[str, ...]


def start(folder: Path, out: Path | None, ask: Ask) -> Started:
    """Write a task file for a project folder, of what lies there. No code of the folder is run, and no file of it
    changed: where ``my_task.py`` is there already the next free name is taken.

    out: the file, where it is not to be that. Raises UsageError where the folder holds no model or no weights of it,
    and for an ``out`` that is there already.
    """
    if out is not None and out.exists():
        raise UsageError(f"{out} is there already and stays as it is: give another --out")
    project = look_at(folder)
    file = out or free_name(folder / TASK_FILE)
    made = task_file(project, choose(project, ask), file)
    write_new(made.text, file)
    return Started(file, made.parts, made.notes)

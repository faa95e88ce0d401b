"""Students of what lies on a machine (``Task.student``): a search keeps those that it began with, so that one that is
downloaded meanwhile makes no other search space of it, and no other model of a plan.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autocompress.errors import UsageError
from autocompress.task import Task

Members = tuple[tuple[float, str], ...]  # width and name of each


def machine_members(task: Task) -> Members | None:
    """The smaller models that its student chooses from, none where there is none of this machine; None of a student
    that does not tell.
    """
    if not _is_of_this_machine(task):
        return ()
    members = getattr(task.student, "members", None)
    return None if members is None else read_members(members)


def with_members(task: Task, known: Members | None, folder: Path) -> Task:
    """A task as the search in ``folder`` knew it, whatever this machine has by now. known: its ``machine_members``;
    None: they are not known. Raises UsageError when there were some and this machine has none.
    """
    if known is None or machine_members(task) in (None, known):
        return task
    if not known:
        return replace(task, student=None)
    if not _is_of_this_machine(task):
        names = ", ".join(str(name) for _, name in known)
        raise UsageError(
            f"{folder} was made with smaller models as students that are not on this machine any more ({names}): get "
            "one of them again, or give another --out"
        )
    student: Any = task.student
    return replace(task, student=student.with_members(known))


def _is_of_this_machine(task: Task) -> bool:
    return bool(getattr(task.student, "of_this_machine", False))


def read_members(members: Sequence[Sequence[Any]]) -> Members:
    """As they were recorded."""
    return tuple((float(width), str(name)) for width, name in members)

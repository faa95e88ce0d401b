"""Whose a folder is: a file of ours in it says that it is ours. Nothing is written to one that holds anything else."""

import json
import os
import sqlite3
from itertools import count
from pathlib import Path
from urllib.parse import quote

from autocompress.errors import UsageError, one_line
from autocompress.storage.atomic import UNFINISHED, write_text
from autocompress.storage.front import FRONT, is_delivery, is_front

TURNSTILE, MACHINE, MEASURED = (
    ".turnstile.lock",
    ".machine.lock",
    ".measured.lock",
)  # of a search's processes; empty
RUN = ".autocompress-run"  # the mark of a run folder; it holds the names of what was delivered
APPLIED = ".autocompress-applied"  # the mark of a folder that ``apply`` made
STUDY = "autocompress"  # the name of the study in ``study.db``
TITLE, HEAD = b"autocompress</title>", 64 << 10  # in the first bytes of every report
SHOWN = 3  # entries of a folder that is not ours


def refuse_strangers(folder: Path, mark: str) -> None:
    """Raise UsageError when a folder holds anything and is not ours, naming what is there, or cannot be a folder."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UsageError(f"{there} is no folder: choose another --out; nothing was written")
    found = _strangers(folder, mark)
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UsageError(
            f"{folder} holds what this command did not make ({', '.join(found[:SHOWN])}{more}): choose another --out; "
            "nothing was written"
        )


def refuse_other_page(path: Path) -> None:
    """Raise UsageError when something is in the place of a report and is none of ours, by its title."""
    try:
        with path.open("rb") as page:
            own = TITLE in page.read(HEAD)
    except FileNotFoundError:
        own = not path.is_symlink()
    except OSError:
        own = False
    if not own:
        raise UsageError(f"{path} is no report of autocompress: move it away and run the same command again")


def own_or_free(folder: Path, mark: str) -> Path:
    """``folder``, or the first of ``folder-2``, ``folder-3``, ... that is ours or not there yet."""
    tried = (folder if n == 1 else folder.with_name(f"{folder.name}-{n}") for n in count(1))
    return next(path for path in tried if _is_free(path) or (path.is_dir() and not _strangers(path, mark)))


def put_mark(folder: Path, mark: str) -> None:
    """Say that a folder is ours; it is made when it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    os.close(os.open(folder / mark, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644))


def is_run(folder: Path) -> bool:
    """Whether a folder is one of a search, of whichever version."""
    return (folder / RUN).is_file() or has_front(folder / FRONT) or _has_study(folder / "study.db")


def has_front(path: Path) -> bool:
    """Whether a file is the ``front.json`` of a search, of whichever version."""
    try:
        return is_front(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError):
        return False


def recorded(folder: Path) -> set[str]:
    """The names, relative to the run folder, of what its search delivered, now or earlier."""
    try:
        return {name for name in json.loads((folder / RUN).read_text("utf-8")) if is_delivery(name)}
    except (OSError, ValueError, TypeError, AttributeError):  # nothing was delivered yet
        return set()


def record(folder: Path, names: set[str]) -> None:
    """Keep the names of what is about to be delivered."""
    if names != recorded(folder):
        write_text(folder / RUN, json.dumps(sorted(names)) + "\n")


def _strangers(folder: Path, mark: str) -> list[str]:
    """What lies in a folder that is not ours; nothing when it is, or holds nothing."""
    if not folder.is_dir() or (folder / mark).is_file() or (mark == RUN and is_run(folder)):
        return []
    try:
        names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}; choose another --out") from error
    return [one_line(name, 60) for name in names if not (name.startswith(UNFINISHED) or _is_empty_lock(folder / name))]


def _is_empty_lock(path: Path) -> bool:
    """Whether a file is what a process that outlived its search may leave."""
    return path.name in (TURNSTILE, MACHINE, MEASURED) and path.is_file() and not path.stat().st_size


def _is_free(path: Path) -> bool:
    return not path.exists() and not path.is_symlink()


def _has_study(path: Path) -> bool:
    """Whether an SQLite file holds our study. It is read as it lies there, because what a killed process left half
    written could be undone only by writing.
    """
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
        try:
            return connection.execute("select 1 from studies where study_name = ?", (STUDY,)).fetchone() is not None
        finally:
            connection.close()
    except (sqlite3.Error, OSError, RuntimeError):
        return False

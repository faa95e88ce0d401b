"""Files that are whole or not there: written under a temporary name, flushed, and renamed, so that a reader sees the
old file or the new one, however many processes write and whenever one is killed.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autocompress.errors import AutocompressError

UNFINISHED = ".autocompress-unfinished-"  # before the name of what nobody needs once its process has ended


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it and rename it into place, on failure remove it. The
    folder it lies in is made, not those above: a process of a search must not make a run folder that was removed anew.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise no_space(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise no_space(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def is_full(error: BaseException) -> bool:
    """Whether an error says that nothing more can be written."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_space(path: Path, error: OSError) -> AutocompressError:
    """What to tell when ``path`` cannot be written, as a rule because the disk is full."""
    if error.errno == errno.ENOENT and not path.parent.is_dir():
        return removed(path)
    if error.errno is not None and not is_full(error):
        return AutocompressError(
            f"cannot write {path}: {error.strerror}; move away what is there or choose another --out, then run the "
            "same command again"
        )
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(there).free / 2**20
    return AutocompressError(
        f"cannot write {path}: {error.strerror or error} ({free:.0f} MiB free); make "
        "room or choose another --out, then run the same command again"
    )


def removed(path: Path) -> AutocompressError:
    """What to tell when the folder that ``path`` was to lie in is gone."""
    return AutocompressError(f"cannot write {path}: its folder was removed meanwhile; run the same command again")

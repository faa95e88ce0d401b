"""Paths that a file names: each stays in the folder that the file belongs to."""

from pathlib import Path

from autocompress.errors import UsageError, one_line


def inside(folder: Path, base: Path, name: str, said_by: Path) -> Path:
    """``name``, relative to ``base``, as a path. Raises UsageError when it is absolute or leads out of ``folder``, by
    ``..`` or by a link.

    said_by: the file that names it.
    """
    path = base / name
    try:
        within = not Path(name).is_absolute() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name that no file can have
        within = False
    if not within:
        raise UsageError(
            f"{said_by} names {one_line(name, 120)!r}, which is not a file of {folder}: put the file into that folder "
            "and name it there, without links"
        )
    return path

"""What a shell offers after an option: names and folders, found without importing torch or any technique."""

from collections.abc import Iterable, Iterator
from pathlib import Path

SPACES = "spaces"  # the end of an entry point's name, of plug-ins that bring search spaces and import nothing heavy
MOST_FOLDERS_SHOWN = 100


def profile_names(incomplete: str) -> list[str]:
    """The bundled profiles, and TOML files."""
    from autocompress.profile import installed_profiles

    return [*_beginning(incomplete, installed_profiles()), *_paths(incomplete, ".toml")]


def space_names(incomplete: str) -> list[str]:
    """The installed search spaces, and TOML files."""
    from importlib.metadata import entry_points

    found: list[str] = []
    for point in entry_points(group="autocompress"):
        if point.name.endswith(SPACES):
            try:
                found += [path.stem for path in point.load().autocompress_search_spaces()]
            except Exception:  # a broken plug-in offers nothing; `autocompress plugins` says why
                continue
    return [*_beginning(incomplete, sorted(found)), *_paths(incomplete, ".toml")]


def task_files(incomplete: str) -> list[str]:
    """Python files that say something of a task."""
    return [path for path in _paths(incomplete, ".py") if path.endswith("/") or "Task" in _text(Path(path))]


def run_folders(incomplete: str) -> list[str]:
    """Folders of searches, finished or not, here and in ``runs``."""
    typed = Path(incomplete)
    parents = {typed if incomplete.endswith("/") else typed.parent, Path("runs")}
    found = {path for parent in parents for path in _entries(parent) if (path / "study.db").is_file()}
    return [
        *_beginning(incomplete, sorted(map(str, found))),
        *(p for p in _paths(incomplete, "/") if Path(p) not in found),
    ]


def _paths(incomplete: str, suffix: str) -> Iterator[str]:
    """Files with this suffix, and once something was typed the folders on the way to them."""
    typed = Path(incomplete)
    for path in _entries(typed if incomplete.endswith("/") else typed.parent):
        if incomplete and path.is_dir() and not path.name.startswith((".", "__")):
            yield from _beginning(incomplete, [f"{path}/"])
        elif path.suffix == suffix:
            yield from _beginning(incomplete, [str(path)])


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:MOST_FOLDERS_SHOWN]
    except OSError:
        return []


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""

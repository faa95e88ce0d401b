"""A walk through a project folder that stays small, whatever lies in it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

DEEPEST = 5  # folders below the project's
MOST_ENTRIES = 500  # looked at in one folder: a folder of a million images is one of images
MOST_FOLDERS = 2_000
LEFT_OUT = {"__pycache__", "node_modules", "site-packages", "build", "dist", "wandb", "lightning_logs"}
OF_OTHERS = ("pyvenv.cfg", "front.json", "study.db", "recipe.toml")  # in environments; in runs and what came of them


@dataclass(frozen=True)
class Listing:
    """folders, files: what lies directly in ``path``, by name, at most ``MOST_ENTRIES`` together."""

    path: Path
    folders: tuple[Path, ...]
    files: tuple[Path, ...]


def listing_of(path: Path) -> Listing:
    """What lies in a folder, without what is hidden; nothing of one that cannot be read."""
    folders: list[Path] = []
    files: list[Path] = []
    for entry in islice(_shown(path), MOST_ENTRIES):
        (folders if entry.is_dir(follow_symlinks=True) else files).append(path / entry.name)
    return Listing(path, tuple(sorted(folders)), tuple(sorted(files)))


def folders_in(path: Path) -> tuple[Path, ...]:
    """All folders that lie directly in one, by name, however many there are."""
    return tuple(sorted(path / entry.name for entry in _shown(path) if entry.is_dir(follow_symlinks=True)))


def holds(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file of these suffixes is among the first entries of a folder."""
    return any(entry.name.lower().endswith(suffixes) for entry in islice(_shown(path), MOST_ENTRIES))


def _shown(path: Path) -> Iterator["os.DirEntry[str]"]:
    """The entries of a folder that are not hidden, in no order; none where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError:
        return


def walk(root: Path) -> Iterator[Listing]:
    """The folder and those below it, nearest first, without environments, runs and caches."""
    waiting, seen = [(root, 0)], 0
    while waiting and seen < MOST_FOLDERS:
        path, depth = waiting.pop(0)
        listing = listing_of(path)
        if any(file.name in OF_OTHERS for file in listing.files):
            continue
        seen += 1
        yield listing
        if depth < DEEPEST:
            waiting += [(folder, depth + 1) for folder in listing.folders if folder.name not in LEFT_OUT]

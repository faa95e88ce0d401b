"""A walk through a project folder that stays small, whatever lies in it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
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
    try:
        with os.scandir(path) as entries:
            for entry, _ in zip(entries, range(MOST_ENTRIES), strict=False):
                if not entry.name.startswith("."):
                    (folders if entry.is_dir(follow_symlinks=True) else files).append(path / entry.name)
    except OSError:
        pass
    return Listing(path, tuple(sorted(folders)), tuple(sorted(files)))


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

"""What lies in a project folder, put together: which network has which weights, and what there is of data."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autocompress.errors import UsageError, one_line
from autocompress.starting.checkpoints import (
    CHECKPOINT_SUFFIXES,
    LEAST_FIT,
    MOST_CHECKPOINTS,
    FoundWeights,
    fitted,
    read_checkpoint,
)
from autocompress.starting.datasets import datasets_of
from autocompress.starting.folder import walk
from autocompress.starting.source_code import DataSource, ModelSource, SourceCode, read_source
from autocompress.starting.splits import Dataset

LIKELY_NAMES = ("best", "final")  # of checkpoints


@dataclass(frozen=True)
class Project:
    """fits: of each network that has weights, the checkpoints by how well their names go with it, best first, with that
    share. data:
    functions first. notes: what a user should know of what was left out.
    """

    folder: Path
    code: SourceCode
    fits: tuple[tuple[ModelSource, tuple[tuple[float, FoundWeights], ...]], ...]
    data: tuple[DataSource | Dataset, ...]
    notes: tuple[str, ...]


def look_at(folder: Path) -> Project:
    """Read a folder. Raises UsageError where there is no network, or no weights."""
    if not folder.is_dir():
        raise UsageError(f"{one_line(folder, 200)} is not a folder: give the one with the model's code and its weights")
    listings = list(walk(folder))
    files = [file for listing in listings for file in listing.files]
    code = read_source([file for file in files if file.suffix == ".py"])
    if not code.models:
        raise UsageError(
            f"no class of torch.nn.Module in {folder}: give the folder of the code that defines the model, or write "
            "my_task.py by hand, as the README shows"
        )
    saved = [file for file in files if file.suffix in CHECKPOINT_SUFFIXES]
    gone = [
        f"{file.name} is a link to a file that is not there and was left out" for file in saved if not file.exists()
    ]
    newest = sorted(filter(Path.exists, saved), key=lambda f: f.stat().st_mtime, reverse=True)
    read = [read_checkpoint(file) for file in newest[:MOST_CHECKPOINTS]]
    refused = [found for found in read if isinstance(found, str)]
    checkpoints = [checkpoint for found in read if not isinstance(found, str) for checkpoint in found]
    if not checkpoints:
        why = "; ".join([*gone, *refused]) or "save model.state_dict() there as .pt, .pth or .safetensors"
        raise UsageError(f"no weights in {folder}: {why}")
    ranked = [(model, _ranked(model, checkpoints)) for model in code.models]
    ranked = [pair for pair in ranked if pair[1][0][0] >= LEAST_FIT] or ranked
    ranked.sort(key=lambda pair: (-pair[1][0][0], pair[0].is_part, pair[0].attributes is None))
    left = (
        f"{len(newest) - MOST_CHECKPOINTS} older checkpoints were not looked at"
        if len(newest) > MOST_CHECKPOINTS
        else ""
    )
    return Project(
        folder=folder,
        code=code,
        fits=tuple(ranked),
        data=(*code.data, *datasets_of(listings)),
        notes=tuple(filter(None, (*code.unread, *gone, *refused, left))),
    )


def _ranked(model: ModelSource, checkpoints: Sequence[FoundWeights]) -> tuple[tuple[float, FoundWeights], ...]:
    """Best first; of equals one that is called best, then the newest."""
    found = [fitted(checkpoint, model) for checkpoint in checkpoints]
    return tuple(sorted(found, key=lambda pair: (-pair[0], not _is_likely(pair[1].path), bool(pair[1].prefix))))


def _is_likely(path: Path) -> bool:
    return any(name in path.stem.lower() for name in LIKELY_NAMES)


def relative(path: Path, folder: Path) -> str:
    """As it is written in code, on any system."""
    return Path(os.path.relpath(path, folder)).as_posix()

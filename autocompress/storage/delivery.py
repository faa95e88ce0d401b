"""The model that a run delivers: a candidate's files in a folder that stands on its own, together with ``front.json``.

``front.json`` is the commit. It holds the digest of every file delivered and takes its name before they do, so that
what a kill left undone can be told, and be done from ``candidates/`` by whoever comes next (``recovery.py``).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from autocompress.errors import AutocompressError, UsageError, one_line
from autocompress.recipe import RecipeFile
from autocompress.storage import front, ownership
from autocompress.storage.atomic import removed, replacing, write_text
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import CANDIDATES, FRONT, MODEL, RECIPE, STORE, WEIGHTS
from autocompress.storage.paths import inside

Content = Path | str  # a file to copy, or a text


def deliver(model: Path, target: Path) -> None:
    """Write a candidate's model, recipe and weights into a folder of their own."""
    for name, content in _contents(model).items():
        with replacing(target / name) as temporary:
            put(content, temporary)


def commit(folder: RunFolder, document: dict[str, Any]) -> dict[str, Any]:
    """Write ``front.json`` and deliver the model it names, both or neither; the document as it was written.

    Raises AutocompressError, with everything as it was, when a file is in the way that no search of this run put there,
    or the candidate's are not what the search wrote.
    """
    if not folder.root.is_dir():
        raise removed(folder.front)
    parent, before = front.folder_of(document), delivered_before(folder)
    try:
        contents = {f"{parent}/{name}": content for name, content in chosen_contents(folder.root, document).items()}
        refuse_foreign(folder, contents)
    except UsageError as error:  # but by now there is something to lose
        raise AutocompressError(str(error)) from error
    document = document | {"delivered": {name: digest_of(content) for name, content in contents.items()}}
    with ExitStack() as renames:  # each file takes its name when this closes, and front.json before
        for name, content in contents.items():
            put(content, renames.enter_context(replacing(folder.root / name)))
        ownership.record(folder.root, before | contents.keys())
        write_text(folder.front, json.dumps(document, indent=1, allow_nan=False) + "\n")
    remove_delivered(folder, before - contents.keys())
    return document


def delivered_before(folder: RunFolder) -> set[str]:
    """The names of what this run's searches delivered, which may be replaced and removed."""
    try:
        said = front.delivered(front.read_front(folder.root)).keys()
    except UsageError:  # there is none
        return ownership.recorded(folder.root)
    return ownership.recorded(folder.root) | said


def refuse_foreign(folder: RunFolder, names: Collection[str]) -> None:
    """Raise UsageError when in place of one of the files to deliver there is what no search of this run put there."""
    ours = delivered_before(folder)
    for name in sorted(names):
        path = folder.root / name
        if os.path.lexists(path) and (name not in ours or path.is_dir()):
            raise UsageError(f"{path} was not made by this search: move it away and run the same command again")


def chosen_contents(root: Path, document: dict[str, Any]) -> dict[str, Content]:
    """What a document delivers, by the file's name."""
    candidate = front.chosen(document)
    if candidate is None:
        return {}
    model = inside(root, root, candidate["artifact"], root / FRONT)
    own = {name: inside(root, model.parent, name, root / FRONT) for name in document.get("artifacts", ())}
    return {**own, **_contents(model)}


def weights_in_store(key: str) -> str:
    """How a candidate's recipe names weights that lie in the store of its run."""
    return f"../../{STORE}/{key}{Path(WEIGHTS).suffix}"


def weights_of(recipe: Path, named: str) -> Path:
    """The weights that a recipe names: a safetensors file in its own folder, or, when it is a candidate's, in the store
    of its run. Raises UsageError when they are anything else: what is checked here is the file that is read and copied.
    """
    folder, within = recipe.parent.resolve(), recipe.parent
    if folder.parent.name == CANDIDATES and Path(named).parts[:3] == ("..", "..", STORE):
        within = folder.parent.parent
    path = inside(within, recipe.parent, named, recipe)
    if path.suffix != Path(WEIGHTS).suffix:
        raise UsageError(
            f"{recipe} names {one_line(named, 120)!r} as its weights, which is no {Path(WEIGHTS).suffix} file: name "
            "the one that the search wrote"
        )
    return path


def put(content: Content, path: Path) -> None:
    """Write it."""
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_bytes(content.encode())


def digest_of(content: Content) -> str | None:
    """Its SHA-256, or None for a file that is not there or cannot be read."""
    if isinstance(content, str):
        return hashlib.sha256(content.encode()).hexdigest()
    try:
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def remove_delivered(folder: RunFolder, names: Collection[str]) -> None:
    """Remove files that were delivered, and their folder when nothing else lies in it."""
    for path in (folder.root / name for name in names):
        if path.is_dir() and not path.is_symlink():  # which is somebody else's
            continue
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()


def _contents(model: Path) -> dict[str, Content]:
    """Weights that are no longer in the store, which is bounded, are missed by whoever applies the recipe, not by who
    uses the model.
    """
    recipe = model.with_name(RECIPE)
    stored = RecipeFile.read(recipe)
    if stored.weights is None:
        return {MODEL: model, RECIPE: stored.to_toml()}
    weights = weights_of(recipe, stored.weights)
    kept: dict[str, Content] = {WEIGHTS: weights} if weights.is_file() else {}
    return {MODEL: model, RECIPE: replace(stored, weights=WEIGHTS).to_toml(), **kept}

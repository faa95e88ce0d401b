"""The model that a run delivers: a candidate's files in a folder that stands on its own, together with ``front.json``.

In the ONNX file stands what it is (its metadata), and beside it lie programs that run and load it, and a card that says
what it is good for.
``front.json`` is the commit. It holds the digest of every file delivered and takes its name before they do, so that
what a kill left undone can be told, and be done from ``candidates/`` by whoever comes next (``recovery.py``).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autocompress.errors import AutocompressError, UsageError, one_line
from autocompress.profile import PROCESSOR
from autocompress.recipe import Recipe, RecipeFile
from autocompress.storage import front, ownership
from autocompress.storage.atomic import removed, replacing, write_text
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import (
    CANDIDATES,
    CARD,
    FRONT,
    LOAD,
    MODEL,
    NEAREST,
    PREDICT,
    RECIPE,
    RECOMMENDED,
    STORE,
    WEIGHTS,
)
from autocompress.storage.onnx_file import metadata
from autocompress.storage.paths import inside
from autocompress.storage.programs import load_program, predict_program


@dataclass(frozen=True)
class Lengthened:
    """A file to copy, with what is to be appended to it."""

    path: Path
    tail: bytes


CARDS = f"{RECOMMENDED}/{CARD}", f"{NEAREST}/{CARD}"
Content = Path | str | Lengthened  # a file to copy, or a text


def deliver(model: Path, target: Path) -> None:
    """Write a candidate's model, recipe and weights into a folder of their own."""
    for name, content in _contents(model).items():
        with replacing(target / name) as temporary:
            put(content, temporary)


def commit(folder: RunFolder, document: dict[str, Any], card: str | None = None) -> dict[str, Any]:
    """Write ``front.json`` and deliver the model it names, both or neither; the document as it was written. card: what
    is said of the model.

    Raises AutocompressError, with everything as it was, when a file is in the way that no search of this run put there,
    or the candidate's are not what the search wrote.
    """
    if not folder.root.is_dir():
        raise removed(folder.front)
    parent, before = front.folder_of(document), delivered_before(folder)
    try:
        own = chosen_contents(folder.root, document)
        if own and card is not None:
            own[CARD] = card
        changed = _changed_programs(folder)
        contents = {f"{parent}/{name}": content for name, content in own.items() if f"{parent}/{name}" not in changed}
        refuse_foreign(folder, contents)
    except UsageError as error:  # but by now there is something to lose
        raise AutocompressError(str(error)) from error
    digests = {n: None if Path(n).name == CARD else digest_of(content) for n, content in contents.items()}
    document = document | {"delivered": digests | {n: d for n, d in changed.items() if n.startswith(f"{parent}/")}}
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    with ExitStack() as renames:  # each file takes its name when this closes, and front.json before
        for name, content in contents.items():
            put(content, renames.enter_context(replacing(folder.root / name)))
        ownership.record(folder.root, before | document["delivered"].keys())
        for name in before & set(CARDS):  # no card stands beside a model that it is not of, whoever is killed when
            (folder.root / name).unlink(missing_ok=True)
        write_text(folder.front, text)
    remove_delivered(folder, before - document["delivered"].keys())
    return document


def is_program(name: str) -> bool:
    """Whether a file that is delivered is one that its user may change."""
    return Path(name).name in (PREDICT, LOAD)


def _changed_programs(folder: RunFolder) -> dict[str, str]:
    """The programs that are not as this run delivered them, with the digests that they had."""
    try:
        said = front.delivered(front.read_front(folder.root))
    except UsageError:  # there is none
        return {}
    there = {name: digest for name, digest in said.items() if is_program(name) and (folder.root / name).is_file()}
    return {name: digest for name, digest in there.items() if digest and digest_of(folder.root / name) != digest}


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
    """What a document delivers, by the file's name, but for the card; of one that an earlier version delivered, what
    that did.
    """
    candidate = front.chosen(document)
    if candidate is None:
        return {}
    model = inside(root, root, candidate["artifact"], root / FRONT)
    own = {name: inside(root, model.parent, name, root / FRONT) for name in document.get("artifacts", ())}
    found = {**own, **_contents(model)}
    if "delivered" in document and f"{front.folder_of(document)}/{PREDICT}" not in document["delivered"]:
        return found
    profile = document.get("environment", {}).get("profile") or {}
    return {
        **found,
        MODEL: Lengthened(model, metadata(_described(document, candidate, digest_of(model)))),
        PREDICT: predict_program(profile.get("threads", 1), profile.get("provider", PROCESSOR)),
        LOAD: load_program(),
    }


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
    elif isinstance(content, Lengthened):
        shutil.copyfile(content.path, path)
        with path.open("ab") as file:
            file.write(content.tail)
    else:
        path.write_bytes(content.encode())


def digest_of(content: Content) -> str | None:
    """Its SHA-256, or None for a file that is not there or cannot be read."""
    if isinstance(content, str):
        return hashlib.sha256(content.encode()).hexdigest()
    path, tail = (content.path, content.tail) if isinstance(content, Lengthened) else (content, b"")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError:
        return None
    digest.update(tail)
    return digest.hexdigest()


def remove_delivered(folder: RunFolder, names: Collection[str]) -> None:
    """Remove files that were delivered, and their folder when nothing else lies in it."""
    for path in (folder.root / name for name in names):
        if path.is_dir() and not path.is_symlink():  # which is somebody else's
            continue
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()


def _described(document: dict[str, Any], candidate: dict[str, Any], measured: str | None) -> dict[str, str]:
    """What an ONNX file says of itself. measured: SHA-256 of the file that was measured, which says nothing yet."""
    score, latency = candidate.get("score") or {}, candidate.get("latency_ms") or {}
    said = {
        "task": document["task"],
        "recipe": str(Recipe.from_json(candidate.get("recipe") or [])),
        "metric": document.get("metric"),
        "validation_score": score.get("val"),
        "test_score": score.get("test"),
        "profile": document.get("profile"),
        "statistic_ms": latency.get("statistic"),
        "latency_ratio": latency.get("ratio"),
        "measured_sha256": measured,
        "labels": json.dumps(document["labels"]) if document.get("labels") else None,
    }
    return {f"autocompress.{name}": str(value) for name, value in said.items() if value is not None}


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

"""``front.json`` as it is read: the document of a run, checked before anybody follows a path in it."""

import json
from pathlib import Path
from types import NoneType
from typing import Any

from autocompress.errors import UsageError, one_line
from autocompress.storage.paths import inside

SCHEMA = 2
READABLE = 1, 2  # 1: latencies of one session each, disturbed ones marked and left off the front
FRONT, REPORT, CANDIDATES, STORE = "front.json", "report.html", "candidates", "store"
EXACT_SUMS, CUT_OFF_SUMS = "exact", "cut off at 16 bits"  # what is recorded of sums of int8 products on the target
RECOMMENDED, NEAREST = "recommended", "nearest"  # folders of a model that stands on its own
MODEL, RECIPE, WEIGHTS = "model.onnx", "recipe.toml", "weights.safetensors"
PREDICT, LOAD, CARD = "predict.py", "load.py", "model_card.md"  # beside them, for who deploys it
DELIVERED = MODEL, RECIPE, WEIGHTS, PREDICT, LOAD, CARD
ENTRY_KINDS: dict[str, tuple[type, ...]] = {
    "schema": (int,),
    "task": (str,),
    "reference": (dict,),
    "candidates": (list,),
    "recommended": (str, NoneType),
    "nearest": (str, NoneType),
}


def read_front(root: Path) -> dict[str, Any]:
    """The ``front.json`` of a run. Raises UsageError when there is none, it is of another version, or it names a file
    outside the run folder.
    """
    path = root / FRONT
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"no run in {root} ({error.strerror}): give the --out folder of a search") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}): move it away and run the same search again") from error
    if not is_front(document) or document["schema"] not in READABLE:
        raise UsageError(
            f"{path} is not a front of schema {READABLE[0]} or {READABLE[-1]}: it was written by another version or "
            "program; give the --out folder of a search of this version"
        )
    try:
        for key, kinds in ENTRY_KINDS.items():
            if not isinstance(document[key], kinds):
                raise TypeError(f"{key} is {document[key]!r}")
        for name in (document["reference"]["artifact"], *(c["artifact"] for c in document["candidates"])):
            inside(root, root, name, path)
        chosen(document)
        for name in delivered(document):
            inside(root, root, name, path)
    except (KeyError, TypeError, ValueError) as error:
        why = f"it is not what a search writes ({type(error).__name__}: {one_line(error, 120)})"
        raise UsageError(f"{path} cannot be used: {why}; move it away and run the same search again") from error
    return document


def is_front(document: object) -> bool:
    """Whether it is the document of a search, of whichever version."""
    return isinstance(document, dict) and document.keys() >= ENTRY_KINDS.keys() and isinstance(document["schema"], int)


def candidate_of(document: dict[str, Any], identifier: str | None) -> dict[str, Any] | None:
    """The candidate with this id."""
    return next((c for c in document["candidates"] if c["id"] == identifier), None)


def chosen(document: dict[str, Any]) -> dict[str, Any] | None:
    """The candidate that was delivered: the recommended one, or the nearest."""
    return candidate_of(document, document["recommended"] or document["nearest"])


def folder_of(document: dict[str, Any]) -> str:
    """Where the chosen candidate is delivered, relative to the run folder."""
    return RECOMMENDED if document["recommended"] else NEAREST


def delivered(document: dict[str, Any]) -> dict[str, str | None]:
    """The files in ``recommended/`` or ``nearest/`` with their SHA-256; None for the card, which is made from the
    document, and where an earlier version wrote them, which kept no digests. Raises ValueError when the document names
    any other file.
    """
    if "delivered" not in document:
        names = (MODEL, RECIPE, WEIGHTS) if chosen(document) else ()
        return dict.fromkeys((f"{folder_of(document)}/{name}" for name in names), None)
    found: dict[str, str | None] = dict(document["delivered"])
    for name in found:
        if not is_delivery(name):
            raise ValueError(f"{name!r} is not in {RECOMMENDED}/ or {NEAREST}/")
    return found


def is_delivery(name: str) -> bool:
    """Whether a path, relative to the run folder, lies in one of the folders that models are delivered to."""
    parent, _, file = name.partition("/")
    return parent in (RECOMMENDED, NEAREST) and "/" not in file and file not in ("", ".", "..")

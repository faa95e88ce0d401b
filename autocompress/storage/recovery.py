"""What a kill left undone between ``front.json`` and the model it delivers, done from ``candidates/``."""

import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from autocompress.errors import UsageError, one_line
from autocompress.storage import front, ownership
from autocompress.storage.atomic import replacing
from autocompress.storage.delivery import (
    chosen_contents,
    delivered_before,
    digest_of,
    is_program,
    put,
    refuse_foreign,
    remove_delivered,
    weights_of,
)
from autocompress.storage.folder import FolderInUse, RunFolder
from autocompress.storage.front import (
    CANDIDATES,
    DELIVERED,
    FRONT,
    NEAREST,
    RECIPE,
    RECOMMENDED,
    WEIGHTS,
)

Say = Callable[[str], None]


class LostDelivery(UsageError):
    """What a run delivered is gone, and cannot be made again from what is left of it."""


def recover(folder: RunFolder, say: Say) -> None:
    """What a search begins with in a folder that this process holds: finish a delivery. Raises UsageError when
    ``candidates/`` no longer holds what ``front.json`` says, or where the search will write there is a file that no
    search of this run put there.

    say: told which files did not agree and were made again.
    """
    refuse_foreign(folder, [f"{parent}/{name}" for parent in (RECOMMENDED, NEAREST) for name in DELIVERED])
    ownership.refuse_other_page(folder.report)
    _finish_delivery(folder, say)


def _finish_delivery(folder: RunFolder, say: Say) -> None:
    if not folder.front.exists():
        return
    document = front.read_front(folder.root)
    wrong = _wrong(folder.root, document)
    if wrong:
        refuse_foreign(folder, wrong)
        _make_whole(folder.root, document, wrong)
        say(f"{', '.join(wrong)} in {folder.root} did not agree with {FRONT}: made again from {CANDIDATES}/")
    if "delivered" in document:
        remove_delivered(folder, delivered_before(folder) - document["delivered"].keys())


def read_run(root: Path, say: Say, *, whole: bool = True) -> dict[str, Any]:
    """The ``front.json`` of a run, after the model it delivers was made to agree with it. Raises UsageError.

    say: told which files did not agree and were made again. whole: whether what cannot be made again is an error, as it
    is for who wants the model; else it is told.
    """
    document = front.read_front(root)
    left = (root / name for name in ownership.recorded(root) - front.delivered(document).keys())
    if _wrong(root, document) or any(path.exists() for path in left):
        folder = RunFolder(root)
        with suppress(FolderInUse):  # by a search, which is about to write both
            folder.claim()
            try:
                _finish_delivery(folder, say)
            except LostDelivery as error:
                if whole:
                    raise
                say(str(error))
            finally:
                folder.release()
        document = front.read_front(root)
    _refuse_weights_elsewhere(root / front.folder_of(document) / RECIPE)
    return document


def recover_recipe(recipe: Path, say: Say) -> None:
    """Make a ``recipe.toml`` that a run delivered agree with its ``front.json``; any other stays as it is."""
    folder = recipe.parent.resolve()
    if folder.name in (RECOMMENDED, NEAREST) and ownership.has_front(folder.parent / FRONT):
        read_run(folder.parent, say)


def _wrong(root: Path, document: dict[str, Any]) -> dict[str, str]:
    """The files delivered that are not what the document says, with the digests it says they have. A program that
    somebody changed for his own use stays so; one that is gone is wrong.
    """
    said = {name: digest for name, digest in front.delivered(document).items() if digest is not None}
    kept = {name for name in said if is_program(name) and (root / name).is_file()}
    return {name: digest for name, digest in said.items() if name not in kept and digest_of(root / name) != digest}


def _make_whole(root: Path, document: dict[str, Any], wrong: Mapping[str, str]) -> None:
    try:
        contents = chosen_contents(root, document)
    except (UsageError, KeyError, TypeError, ValueError) as error:
        raise _lost(root, sorted(wrong), one_line(error)) from error
    for name, digest in wrong.items():
        content = contents.get(Path(name).name)
        if content is not None and (is_program(name) or digest_of(content) == digest):
            with replacing(root / name) as temporary:
                put(content, temporary)
        elif name.endswith(WEIGHTS) and not (root / name).exists():
            pass  # nor does the store have them any more: whoever applies the recipe misses them
        else:
            raise _lost(root, [name], f"{CANDIDATES}/ no longer holds it")


def _lost(root: Path, names: list[str], why: str) -> LostDelivery:
    return LostDelivery(
        f"{', '.join(names)} in {root} did not agree with {FRONT} and cannot be made again: {why}; put back what is "
        "missing, or search with another --out"
    )


def _refuse_weights_elsewhere(recipe: Path) -> None:
    try:
        named = tomllib.loads(recipe.read_text("utf-8")).get("weights")
    except (OSError, ValueError):  # there is none, or none that can be applied
        return
    if isinstance(named, str):
        weights_of(recipe, named)

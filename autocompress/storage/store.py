"""A content-addressed store on disk: tensors and plans under the digest of what made them.

An entry is whole or not there. Each carries the digest of its content and the version that wrote it; one that was
cut short, altered, or written by another version counts as missing, and is made again by whoever needs it. Tensors are
safetensors, which hold data and no code.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autocompress.recipe import digest
from autocompress.storage.atomic import copy_file, replacing, write_text
from autocompress.supervisor import tell_nobody

VERSION = "1"
MARK, STAMP = "digest", "version"
ENTRY = re.compile(r"[a-z]+-[0-9a-f]{20}\.(safetensors|json)")


class Store:
    """``key(...)`` names an entry; ``save`` and ``load`` move tensors, ``save_json`` and ``load_json`` what JSON holds.

    say: told when an entry cannot be used, and why. version: of what entries hold; others are not read.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = tell_nobody, version: str = VERSION) -> None:
        self.root = root
        self._say = say
        self._version = version

    def key(self, kind: str, *parts: object) -> str:
        """``kind-<digest of the parts>``; the parts are JSON-serialisable."""
        return f"{kind}-{digest(list(parts))[:20]}"

    def path(self, key: str) -> Path:
        return self.root / f"{key}.safetensors"

    def save(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors; on a full disk raises AutocompressError naming the path and the free space."""
        held = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        with replacing(self.path(key)) as temporary:
            try:
                save_file(held, temporary, metadata={STAMP: self._version, MARK: digest_of_tensors(held)})
            except SafetensorError as error:  # its way of telling an operating system's error
                raise OSError(str(error)) from error

    def holds(self, key: str) -> bool:
        """Whether tensors are there, whole and of this version."""
        return bool(ENTRY.fullmatch(f"{key}.safetensors")) and self.load(key) is not None

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The entry's tensors, or None when there is none that is whole and of this version."""
        path = self.path(key)
        try:
            with safe_open(path, "pt") as file:
                written = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError) as error:
            self._unusable(path, f"it is cut short or no safetensors file ({error})")
            return None
        if written.get(STAMP) != self._version:
            self._unusable(path, f"version {written.get(STAMP)} wrote it, this one reads {self._version}")
            return None
        if written.get(MARK) != digest_of_tensors(tensors):
            self._unusable(path, "its content was altered")
            return None
        with suppress(OSError):
            os.utime(path)  # the least recently used entries go first
        return tensors

    def save_json(self, key: str, value: Any) -> None:
        """Keep what JSON can hold."""
        write_text(self.root / f"{key}.json", json.dumps({STAMP: self._version, MARK: digest(value), "value": value}))

    def load_json(self, key: str) -> Any:
        """What was kept, or None when there is nothing that is whole and of this version."""
        path = self.root / f"{key}.json"
        try:
            written = json.loads(path.read_text("utf-8"))
            sound = written[STAMP] == self._version and written[MARK] == digest(written["value"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            self._unusable(path, "it was cut short, altered, or written by another version")
            return None
        return written["value"]

    def take(self, other: "Store", keys: Collection[str]) -> None:
        """Copy tensors of another store. Raises ValueError for what is no key."""
        for key in keys:
            if not ENTRY.fullmatch(f"{key}.safetensors"):
                raise ValueError(f"{key!r} is no key of a store")
            copy_file(other.path(key), self.path(key))

    def drop(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def trim(self, most: int, keep: Collection[str]) -> int:
        """Remove the least recently used entries until the store holds at most ``most`` bytes; how many went.

        keep: keys that stay whatever they take.
        """
        found = []
        for path in self._named():
            with suppress(FileNotFoundError):  # another process may remove one meanwhile
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        excess, gone = sum(size for _, size, _ in found) - most, 0
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            if path.stem not in keep and _is_entry(path):
                path.unlink(missing_ok=True)
                excess, gone = excess - size, gone + 1
        return gone

    def entries(self) -> Iterator[Path]:
        """The files that a store wrote, of whichever version; anything else in the folder is not the store's."""
        return filter(_is_entry, self._named())

    def _named(self) -> Iterator[Path]:
        """The files with a key for a name, which does not say yet whose they are."""
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if ENTRY.fullmatch(path.name):
                yield path

    def _unusable(self, path: Path, why: str) -> None:
        self._say(f"{path} cannot be used: {why}")


def _is_entry(path: Path) -> bool:
    """Whether a file carries what every entry does."""
    try:
        if path.suffix == ".json":
            written = json.loads(path.read_text("utf-8"))
        else:
            with safe_open(path, "pt") as file:
                written = file.metadata()
    except (SafetensorError, OSError, ValueError):
        return False
    return isinstance(written, dict) and written.keys() >= {STAMP, MARK}


def digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Digest over names, types, shapes and bytes."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        if tensor.numel():
            state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()

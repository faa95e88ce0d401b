"""A content-addressed store on disk: tensors and plans under the digest of what made them.

Everything is written under a temporary name, flushed and renamed, so that a reader sees the old file or the new one,
however many processes write. Each entry carries the digest of its content and the version that wrote it; one that was
cut short, altered, or written by another version counts as missing, and is made again by whoever needs it. Tensors are
safetensors, which hold data and no code.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autocompress.errors import AutocompressError
from autocompress.recipe import digest

VERSION = "1"  # of what entries hold
MARK, STAMP = "digest", "version"


def _silent(text: str) -> None:
    pass


class Store:
    """``key(...)`` names an entry; ``save`` and ``load`` move tensors, ``save_json`` and ``load_json`` what JSON holds.

    say: told when an entry cannot be used, and why.
    """

    def __init__(self, root: Path, say: Callable[[str], None] = _silent) -> None:
        self.root = root
        self._say = say

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
                save_file(held, temporary, metadata={STAMP: VERSION, MARK: _content(held)})
            except SafetensorError as error:  # its way of telling an operating system's error
                raise OSError(str(error)) from error

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
        if written.get(STAMP) != VERSION:
            self._unusable(path, f"version {written.get(STAMP)} wrote it, this one reads {VERSION}")
            return None
        if written.get(MARK) != _content(tensors):
            self._unusable(path, "its content was altered")
            return None
        with suppress(OSError):
            os.utime(path)  # the least recently used entries go first
        return tensors

    def save_json(self, key: str, value: Any) -> None:
        """Keep what JSON can hold."""
        write_text(self.root / f"{key}.json", json.dumps({STAMP: VERSION, MARK: digest(value), "value": value}))

    def load_json(self, key: str) -> Any:
        """What was kept, or None when there is nothing that is whole and of this version."""
        path = self.root / f"{key}.json"
        try:
            written = json.loads(path.read_text("utf-8"))
            sound = written[STAMP] == VERSION and written[MARK] == digest(written["value"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            self._unusable(path, "it was cut short, altered, or written by another version")
            return None
        return written["value"]

    def drop(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def trim(self, most: int, keep: Collection[str]) -> int:
        """Remove the least recently used entries until the store holds at most ``most`` bytes; how many went.

        keep: keys that stay whatever they take.
        """
        found = [(status.st_mtime, status.st_size, path) for path, status in self._entries()]
        excess, gone = sum(size for _, size, _ in found) - most, 0
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            if path.stem not in keep:
                path.unlink(missing_ok=True)
                excess, gone = excess - size, gone + 1
        return gone

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.root.glob("*-*.*") if self.root.is_dir() else ():
            with suppress(FileNotFoundError):  # another process may remove one meanwhile
                if not path.name.startswith("."):
                    yield path, path.stat()

    def _unusable(self, path: Path, why: str) -> None:
        self._say(f"{path} cannot be used: {why}")


def _content(tensors: Mapping[str, Tensor]) -> str:
    """Digest over names, types, shapes and bytes."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        if tensor.numel():
            state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it and rename it into place, on failure remove it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise no_space(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise no_space(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_full(error: BaseException) -> bool:
    """Whether an error says that nothing more can be written."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def no_space(path: Path, error: OSError) -> AutocompressError:
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(there).free / 2**20
    return AutocompressError(
        f"cannot write {path}: {error.strerror or error} ({free:.0f} MiB free); make "
        "room or choose another --out, then run the same command again"
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)

"""A content-addressed store on disk: tensors and files under the digest of what made them.

Everything is written under a temporary name, flushed and renamed, so that a reader sees the old file or the new one.
Tensors are safetensors, which hold data and no code.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from autocompress.errors import AutocompressError
from autocompress.recipe import digest


class Store:
    """``key(...)`` names an entry; ``save`` and ``load`` move tensors in and out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def key(self, kind: str, *parts: object) -> str:
        """``kind-<digest of the parts>``; the parts are JSON-serialisable."""
        return f"{kind}-{digest(list(parts))[:20]}"

    def path(self, key: str) -> Path:
        return self.root / f"{key}.safetensors"

    def save(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        with replacing(self.path(key)) as temporary:
            try:
                save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, temporary)
            except SafetensorError as error:  # its way of telling an operating system's error
                raise OSError(str(error)) from error

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The entry's tensors, or None when there is none; an entry cut short counts as none."""
        try:
            return load_file(self.path(key))
        except (FileNotFoundError, SafetensorError):
            return None


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

"""The files that an agent was sent, by the SHA-256 of their content."""

import errno
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from autocompress_agent.limits import MEGABYTE, Limits
from autocompress_agent.refusal import Refused

DIGEST = re.compile(r"[0-9a-f]{64}")


class Files:
    """In a folder that nobody else reads. What was not used for longest goes when there is too much."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._taking = threading.Lock()
        self._in_use: list[str] = []

    def paths(self, digests: Iterable[str]) -> list[Path]:
        """Those files. Raises Refused, with all that are missing."""
        paths = [self._path(digest) for digest in digests]
        if missing := tuple(path.name for path in paths if not path.exists()):
            raise Refused(404, f"{len(missing)} files are not here: send them first", missing)
        for path in paths:
            os.utime(path)
        return paths

    @contextmanager
    def using(self, digests: Sequence[str]) -> Iterator[list[Path]]:
        """Those files, which stay while this is open. Raises Refused as ``paths`` does."""
        with self._taking:
            paths = self.paths(digests)
            self._in_use += digests
        try:
            yield paths
        finally:
            with self._taking:
                for digest in digests:
                    self._in_use.remove(digest)

    async def keep(self, digest: str, parts: AsyncIterator[bytes]) -> None:
        """Take a file in. Raises Refused when it is another one, too large, or does not fit on the disk."""
        path, found, size = self._path(digest), hashlib.sha256(), 0
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".coming-") as coming:
                async for part in parts:
                    size += len(part)
                    if size > self._limits.file_bytes:
                        most = self._limits.file_bytes // MEGABYTE
                        raise Refused(413, f"the file is larger than the {most} MB that this agent takes (--max-file)")
                    found.update(part)
                    coming.write(part)
                coming.flush()
                if found.hexdigest() != digest:
                    raise Refused(400, "the content is not that of the digest: the file changed on its way")
                self._take(Path(coming.name), path, size)
        except OSError as error:
            raise _no_space(error) from error

    def add(self, content: bytes) -> str:
        """Keep what was made here; its digest."""
        digest, most = hashlib.sha256(content).hexdigest(), self._limits.file_bytes
        if len(content) > most:
            raise Refused(
                413, f"what was made is larger than the {most // MEGABYTE} MB that this agent takes (--max-file)"
            )
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".coming-") as coming:
                coming.write(content)
                coming.flush()
                self._take(Path(coming.name), self._path(digest), len(content))
        except OSError as error:
            raise _no_space(error) from error
        return digest

    def _take(self, coming: Path, path: Path, size: int) -> None:
        """Give a file that is complete its name."""
        with self._taking:
            self._make_room(size)
            if not path.exists():
                os.link(coming, path)

    def _path(self, digest: str) -> Path:
        if not DIGEST.fullmatch(digest):
            raise Refused(400, "a file is named by the 64 hexadecimal digits of its SHA-256")
        return self._folder / digest

    def _make_room(self, needed: int) -> None:
        kept = sorted((p for p in self._folder.iterdir() if DIGEST.fullmatch(p.name)), key=lambda p: p.stat().st_mtime)
        size = needed + sum(path.stat().st_size for path in kept)
        for path in kept:
            if size <= self._limits.folder_bytes:
                return
            if path.name not in self._in_use:
                size -= path.stat().st_size
                path.unlink()


def _no_space(error: OSError) -> Exception:
    """What is told of an error of the disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, "no space is left on the device's disk")
    return error

"""The run folder: where each result lies, and the lock that keeps a second search out."""

import fcntl
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from autocompress.errors import UsageError
from autocompress.storage.store import Store, write_text

STORE_BYTES = 8 << 30  # of checkpoints, outputs and plans, at most, and half of what is free


class RunFolder:
    """``--out``. Paths in ``front.json`` are relative to ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None

    @property
    def front(self) -> Path:
        return self.root / "front.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def study(self) -> Path:
        return self.root / "study.db"

    @property
    def reference(self) -> Path:
        return self.root / "reference" / "model.onnx"

    @property
    def recommended(self) -> Path:
        return self.root / "recommended"

    @property
    def nearest(self) -> Path:
        return self.root / "nearest"

    @property
    def worker_log(self) -> Path:
        return self.root / "worker.log"

    @property
    def stored(self) -> Path:
        """The content-addressed store."""
        return self.root / "store"

    @property
    def scratch(self) -> Path:
        """This process's own folder for files that nobody else reads."""
        return self.stored / "scratch" / str(os.getpid())

    def trim(self, keep: Collection[str]) -> None:
        """Keep the store within its bounds, whatever ``keep`` names kept."""
        free = shutil.disk_usage(self.root).free
        Store(self.stored).trim(min(STORE_BYTES, free // 2), keep)

    def candidate(self, identifier: str) -> Path:
        return self.root / "candidates" / identifier / "model.onnx"

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def claim(self) -> None:
        """Create the folder and lock it for this process. Raises UsageError when it cannot be written or is in use."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(
                f"cannot write the run folder {self.root}: {error.strerror}; choose another --out"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            self._lock = None
            raise UsageError(
                f"{self.root} is in use by process {holder}: wait for it, stop it, or choose another --out"
            ) from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, str(os.getpid()).encode())
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed process left half written, and files that only it read."""
        shutil.rmtree(self.stored / "scratch", ignore_errors=True)
        for folder in (self.root, self.stored, *self.root.glob("candidates/*")):
            for path in folder.glob(".*-*.*"):
                path.unlink(missing_ok=True)

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_front(self, document: dict[str, Any]) -> None:
        write_text(self.front, json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_front(root: Path) -> dict[str, Any]:
    """The ``front.json`` of a run. Raises UsageError when there is none, or it is of another version."""
    try:
        document = json.loads((root / "front.json").read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"no run in {root} ({error.strerror}): give the --out folder of a search") from error
    except ValueError as error:
        raise UsageError(f"{root / 'front.json'} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != 1:
        raise UsageError(
            f"{root / 'front.json'} is not a front of schema 1: it was written by another version or program"
        )
    return document

"""The run folder: where each result lies, the lock that keeps a second search out, and what of it may be removed."""

import fcntl
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from autocompress.errors import UsageError
from autocompress.storage.atomic import UNFINISHED, is_full, no_space, removed
from autocompress.storage.front import CANDIDATES, FRONT, MODEL, NEAREST, RECIPE, RECOMMENDED, REPORT, STORE
from autocompress.storage.ownership import MACHINE, MEASURED, RUN, TURNSTILE, put_mark, refuse_strangers
from autocompress.storage.store import Store

STORE_BYTES = 8 << 30  # of checkpoints, outputs and plans, at most, and half of what is free
LOCK = ".lock"


class FolderInUse(UsageError):
    """Another process holds the run folder."""


class RunFolder:
    """``--out``. Paths in ``front.json`` are relative to ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None
        self._made = False  # by this process, where nothing was
        self._held_nothing = False  # when this process claimed it

    @property
    def front(self) -> Path:
        return self.root / FRONT

    @property
    def report(self) -> Path:
        return self.root / REPORT

    @property
    def study(self) -> Path:
        return self.root / "study.db"

    @property
    def reference(self) -> Path:
        return self.root / "reference" / MODEL

    @property
    def recommended(self) -> Path:
        return self.root / RECOMMENDED

    @property
    def nearest(self) -> Path:
        return self.root / NEAREST

    @property
    def worker_log(self) -> Path:
        return self.root / "worker.log"

    @property
    def stored(self) -> Path:
        """The content-addressed store."""
        return self.root / STORE

    @property
    def scratch(self) -> Path:
        """This process's own folder for files that nobody else reads."""
        return self.root / f"{UNFINISHED}{os.getpid()}"

    def trim(self, keep: Collection[str]) -> None:
        """Keep the store within its bounds, whatever ``keep`` names kept."""
        try:
            free = shutil.disk_usage(self.root).free
        except FileNotFoundError as error:
            raise removed(self.stored) from error
        Store(self.stored).trim(min(STORE_BYTES, free // 2), keep)

    def candidate(self, identifier: str) -> Path:
        return self.root / CANDIDATES / identifier / MODEL

    def make_candidates(self) -> None:
        """Make the folder of all candidates, in a run folder that is still there."""
        folder = self.root / CANDIDATES
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise no_space(folder, error) from error

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def claim(self) -> None:
        """Create the folder, mark it as ours and lock it for this process. Raises UsageError when it holds what is not
        ours, with nothing written, and when it cannot be written or is in use.
        """
        self.refuse_others()
        try:
            self._made = _make(self.root)
            put_mark(self.root, RUN)
            lock = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            if is_full(error):
                raise no_space(self.root / LOCK, error) from error
            raise UsageError(
                f"cannot write the run folder {self.root}: {error.strerror}; choose another --out"
            ) from error
        self._hold(lock)
        self._sweep()
        self._held_nothing = {path.name for path in self.root.iterdir()} <= {RUN, LOCK, TURNSTILE, MACHINE, MEASURED}

    def refuse_others(self) -> None:
        """Raises UsageError when the folder holds what is not ours. Nothing is written through a link, and a folder in
        place of a file is found before anything is computed.
        """
        refuse_strangers(self.root, RUN)
        for path in (*self._files(), *self._folders(), *self.root.glob(f"{CANDIDATES}/*")):
            if path.is_symlink():
                raise UsageError(
                    f"{path} is a link, and a run folder holds its own files: remove the link or choose another --out"
                )
        for paths, is_right, kind in ((self._files(), Path.is_file, "file"), (self._folders(), Path.is_dir, "folder")):
            for path in paths:
                if path.exists() and not is_right(path):
                    raise UsageError(
                        f"{path} is not the {kind} that a run folder holds there: move it away or choose another --out"
                    )

    def _hold(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise FolderInUse(
                f"{self.root} is in use by process {holder}: wait for it, stop it, or choose another --out"
            ) from None
        except OSError as error:
            os.close(lock)
            raise no_space(self.root / LOCK, error) from error
        self._lock = lock

    def release(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._sweep()
            os.close(self._lock)
            self._lock = None

    def discard(self) -> None:
        """Remove what a search makes before it delivers anything, if the folder held nothing when this process claimed
        it: then the folder itself, if this process made it. Whatever else lies there stays.
        """
        if not self._held_nothing:
            return
        self._sweep()
        models = (folder / name for folder in (*self._candidates(), self.reference.parent) for name in (MODEL, RECIPE))
        for path in (*self._files(), *models, *Store(self.stored).entries()):
            with suppress(OSError):  # it is not there, or somebody put a folder there
                path.unlink()
        for folder in (*self._candidates(), *self._folders(), *((self.root,) if self._made else ())):
            with suppress(OSError):  # it is not there, or it is not empty
                folder.rmdir()

    def _files(self) -> tuple[Path, ...]:
        """What a search writes in the run folder itself."""
        hidden = (self.root / name for name in (RUN, LOCK, TURNSTILE, MACHINE, MEASURED))
        study = (self.study.with_name(f"{self.study.name}{end}") for end in ("", "-wal", "-shm"))
        return (*hidden, self.front, self.report, *study, self.worker_log)

    def _folders(self) -> tuple[Path, ...]:
        candidates = self.root / CANDIDATES
        return self.recommended, self.nearest, self.reference.parent, candidates, self.stored

    def _candidates(self) -> list[Path]:
        return [path for path in self.root.glob(f"{CANDIDATES}/*") if path.is_dir() and not path.is_symlink()]

    def _sweep(self) -> None:
        """Remove what a process left half written, and files that only it read: both say so by their names."""
        for folder in (self.root, *self._folders(), *self._candidates()):
            for path in folder.glob(f"{UNFINISHED}*"):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _make(folder: Path) -> bool:
    """Whether the folder had to be made."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True

"""Several processes of a search work, and one measures beside them, or has the machine alone to measure.

A readers-writer lock of two files with a turnstile (Courtois, Heymans & Parnas 1971, without starving the writer): who
works holds the machine shared and looks at the turnstile between two steps; who measures closes the turnstile, then
waits until it has the machine alone. The locks are flock's, which the kernel frees when a process ends, however it
ends.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from autocompress.storage.atomic import no_space
from autocompress.storage.ownership import MACHINE, MEASURED, TURNSTILE


class MachineLock:
    """One process's hold on the machine, agreed on in ``folder``, which is there. waiting: opened around each wait for
    others. waited_s: what all waits took, in seconds. Raises AutocompressError when the folder was removed.
    """

    def __init__(self, folder: Path, waiting: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._turnstile, self._machine, self._timed = (
            _opened(folder / name) for name in (TURNSTILE, MACHINE, MEASURED)
        )
        self._outside = waiting
        self._inside = False
        self.waited_s = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """While open, this process computes and nobody measures, but for the time it gives way."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def give_way(self) -> None:
        """A safe point of one that works: waits outside while another process measures."""
        if not self._inside or _locked(self._turnstile, fcntl.LOCK_SH | fcntl.LOCK_NB):
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)
            return
        self._leave()
        self._enter()

    def others_work(self) -> bool:
        """Whether a process works now. For one that does not work itself."""
        if not _locked(self._machine, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
        fcntl.flock(self._machine, fcntl.LOCK_UN)
        return False

    @contextmanager
    def beside(self) -> Iterator[None]:
        """While open, this process measures beside those that work, which leave it a core."""
        fcntl.flock(self._timed, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._timed, fcntl.LOCK_UN)

    def others_measure(self) -> bool:
        """Whether a process measures beside this one now."""
        if not _locked(self._timed, fcntl.LOCK_SH | fcntl.LOCK_NB):
            return True
        fcntl.flock(self._timed, fcntl.LOCK_UN)
        return False

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """While open, every other process waits."""
        inside = self._inside
        self._leave()  # two that wait for each other to leave would wait for ever
        try:
            with self._waiting():
                fcntl.flock(self._turnstile, fcntl.LOCK_EX)
                fcntl.flock(self._machine, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(self._machine, fcntl.LOCK_UN)
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)
            if inside:
                self._enter()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        began = time.monotonic()
        with self._outside():
            yield
        self.waited_s += time.monotonic() - began

    def _enter(self) -> None:
        with self._waiting():
            fcntl.flock(self._turnstile, fcntl.LOCK_SH)
            fcntl.flock(self._machine, fcntl.LOCK_SH)
        fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        self._inside = True

    def _leave(self) -> None:
        fcntl.flock(self._machine, fcntl.LOCK_UN)
        self._inside = False


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise no_space(path, error) from error


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    return True

"""A loader's batches, and what goes wrong in the worker processes that make them."""

import signal
import threading
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from autocompress.errors import one_line


def each_of(source: Iterable[Any]) -> Iterator[Any]:
    """What a loader, or anything that is iterated, gives. It raises what that or a worker process does."""
    given: Iterator[Any] | None = None
    while True:
        with WorkerEndings():
            if given is None:
                given = iter(source)
            try:
                one = next(given)
            except StopIteration:
                return
        yield one


class WorkerEndings:
    """While open, a worker process of a loader that ends by itself is an error here. torch's handler of the signal for
    that raises in whatever this process does at the moment, once there was a loader with workers; it is only on while
    open, and asked at once of those that ended meanwhile.
    """

    of_torch: ClassVar[Any] = None

    def __enter__(self) -> None:
        self._before = signal.getsignal(signal.SIGCHLD)
        self._there = threading.current_thread() is threading.main_thread()
        if self._there and self.of_torch is not None:
            signal.signal(signal.SIGCHLD, WorkerEndings.of_torch)
            try:
                WorkerEndings.of_torch(signal.SIGCHLD, None)
            except BaseException:
                self.__exit__()
                raise

    def __exit__(self, *_: object) -> None:
        now = signal.getsignal(signal.SIGCHLD)
        if self._there and now is not self._before:
            WorkerEndings.of_torch = now
            signal.signal(signal.SIGCHLD, self._before)


def reading_cause(error: Exception) -> str:
    """What was raised, in a worker process too, without the traceback that its text carries."""
    if isinstance(error, (ConnectionError, EOFError)):
        return "one of them ended"
    lines = [line for line in str(error).splitlines() if line.strip()]
    if "Original Traceback" in str(error):
        return one_line(lines[-1], 200)
    return f"{type(error).__name__}: {one_line(error, 200)}"

"""Another that works or measures, in a thread: to the kernel its lock is as good as another process's."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autocompress.measure import MachineLock


@contextmanager
def another(folder: Path, what: str) -> Iterator[threading.Event]:
    """Another lock of the machine, held by one that works and gives way, or measures, until the event is set."""
    lock, inside, ends = MachineLock(folder), threading.Event(), threading.Event()

    def hold() -> None:
        with getattr(lock, what)():
            inside.set()
            while not ends.wait(0.001):
                if what == "working":
                    lock.give_way()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert inside.wait(10)
    try:
        yield ends
    finally:
        ends.set()
        thread.join(10)

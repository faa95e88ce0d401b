"""On which processor a session runs: where its blocks are quiet, and else on the next one.

Two hardware threads may share one core, and the other may belong to somebody else: a virtual machine does not see it,
and its scheduler leaves a busy thread where it is.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

Move = Callable[[], None]


def stay() -> None:
    """Where a session cannot choose."""


@contextmanager
def taking_turns(*, possible: bool) -> Iterator[Move]:
    """While open, what is handed out moves this thread to the next processor that it may run on; afterwards it runs on
    all of them as before. possible: False for what does not compute in this thread alone.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not possible or len(allowed) < 2 or not _may_move(allowed):
        yield stay
        return
    here = _running_on()
    turns = cycle(sorted(allowed, key=lambda processor: (processor <= here, processor)))
    try:
        yield lambda: os.sched_setaffinity(0, {next(turns)})
    finally:
        os.sched_setaffinity(0, allowed)


def _running_on() -> int:
    """The processor this thread runs on now; -1 where the system does not say."""
    try:
        return int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return -1


def _may_move(allowed: list[int]) -> bool:
    """A sandbox may forbid it."""
    try:
        os.sched_setaffinity(0, allowed)
    except OSError:
        return False
    return True

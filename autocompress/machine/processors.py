"""On which processors a session runs: a thread where its blocks are quiet, and else on the next one; several threads
each on one of its own.

Two hardware threads may share one core, and the other may belong to somebody else: a virtual machine does not see it,
and its scheduler leaves a busy thread where it is. Of threads that wait for each other it may put two on one processor:
a call takes as long as with one thread then.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

from .cgroups import SYS, text_of

Move = Callable[[], None]


def stay() -> None:
    """Where a session cannot choose."""


@contextmanager
def taking_turns(*, possible: bool) -> Iterator[Move]:
    """While open, what is handed out moves this thread to the next processor that it may run on; afterwards it runs on
    all of them as before. possible: False for what does not compute in this thread alone.
    """
    allowed = _allowed()
    if not possible or len(allowed) < 2 or not _may_move(allowed):
        yield stay
        return
    here = _running_on()
    turns = cycle(sorted(allowed, key=lambda processor: (processor <= here, processor)))
    try:
        yield lambda: os.sched_setaffinity(0, {next(turns)})
    finally:
        os.sched_setaffinity(0, allowed)


def own_processors(threads: int, sys: Path = SYS) -> Sequence[int]:
    """One for each of so many threads that compute a call together, the calling thread's first, by the numbers that the
    system gives them: of cores of their own as long as there are such, the fastest first, from where this thread runs
    on. None for a single thread, where this one may run on fewer, and where it cannot choose.
    """
    allowed = _allowed()
    if not 2 <= threads <= len(allowed) or not _may_move(allowed):
        return ()
    here, taken = _running_on(), Counter[str]()
    ranks: dict[int, tuple[int, int]] = {}
    for processor in sorted(allowed, key=lambda processor: (processor < here, processor)):
        about = sys / f"devices/system/cpu/cpu{processor}"
        core = text_of(about / "topology/thread_siblings_list") or f"{processor}"
        capacity = text_of(about / "cpu_capacity") or ""
        ranks[processor] = taken[core], -int(capacity) if capacity.isdigit() else 0
        taken[core] += 1
    return sorted(ranks, key=ranks.__getitem__)[:threads]


@contextmanager
def staying_on(processors: Sequence[int]) -> Iterator[None]:
    """While open, this thread runs on these; afterwards, also after an error, on all that it might run on before. As it
    is where they are none, or where the system forbids it by now.
    """
    allowed = _allowed() if processors else []
    try:
        with suppress(OSError):
            if allowed:
                os.sched_setaffinity(0, processors)
        yield
    finally:
        with suppress(OSError):
            if allowed:
                os.sched_setaffinity(0, allowed)


def _allowed() -> list[int]:
    """The processors that this thread may run on; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


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

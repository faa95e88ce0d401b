"""On which processor a latency is measured: the one that is least disturbed just now.

Two hardware threads may share one core, and the other may belong to somebody else: a virtual machine does not see it.
A small model then slows down more than a large one, so that pairing alone does not save the ratio. A process that is
pinned to the better processor for the length of a measurement keeps clear of it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST_PROCESSORS = 8  # processors tried


@contextmanager
def pinned_to_fastest(seconds: Callable[[], float], tries: int) -> Iterator[None]:
    """While open, this thread runs on the processor where ``seconds`` (how long some fixed work takes) is least.

    tries: on how many processors the work may be tried; with fewer than two, or where a thread cannot be pinned,
    nothing is done. Threads that the work starts meanwhile are pinned too.
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    count = min(len(allowed), MOST_PROCESSORS, tries)
    if count < 2 or not _may_pin(allowed):
        yield
        return
    tried = [allowed[i * len(allowed) // count] for i in range(count)]
    try:
        found = {}
        for processor in tried:
            os.sched_setaffinity(0, {processor})
            found[processor] = seconds()
        os.sched_setaffinity(0, {min(found, key=lambda processor: found[processor])})
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _may_pin(allowed: list[int]) -> bool:
    """A sandbox may forbid it."""
    try:
        os.sched_setaffinity(0, allowed)
    except OSError:
        return False
    return True

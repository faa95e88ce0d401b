"""How long a candidate waited for somebody else, a free worker or a device that does not answer: it is not to blame.

Of each asyncio task, in which one candidate is under way at a time.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_WAITED_S: ContextVar[float] = ContextVar("waited_s", default=0.0)


def waited_s() -> float:
    """Seconds, of this task so far."""
    return _WAITED_S.get()


@contextmanager
def waiting() -> Iterator[None]:
    """While open, this task waits."""
    clock = asyncio.get_running_loop().time
    began, before = clock(), waited_s()
    try:
        yield
    finally:
        _WAITED_S.set(before + clock() - began)  # what waits inside counts once

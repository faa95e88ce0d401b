"""Something computed in a process of its own, a copy of this one.

Where the memory of a process lies makes a difference of about 1 % to what a call takes, the same for all sessions of
that process: these are closer to each other than to the next one's (docs/measurement.md). A fork has the memory that
it writes to elsewhere, and costs some milliseconds where a new interpreter costs seconds.
"""

import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from autocompress.errors import AutocompressError, CandidateFailed, one_line
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile

T = TypeVar("T")
PR_SET_PDEATHSIG = 1
_answered: set[int] = set()  # processes that have answered: what is left of them ends beside what this one does next


def can_fork(runtime: Runtime, profile: HardwareProfile) -> bool:
    """Whether its files can be opened in a copy of this process."""
    return runtime.can_fork(profile) and hasattr(os, "fork")


def forked(compute: Callable[[], T]) -> T:
    """What ``compute`` returns, which can be pickled, or raises. A process that ends without an answer raises
    CandidateFailed. For a process whose other threads hold nothing that ``compute`` needs.
    """
    _collect()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        _answer(compute, read, write)
    os.close(write)
    try:
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
    except BaseException:
        _ended(pid)
        raise
    if said:
        _answered.add(pid)
    else:
        status = _ended(pid)
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit code {status >> 8}"
        raise CandidateFailed(f"the process that ran the file ended without an answer ({how})")
    answer: Any = pickle.loads(said)
    if isinstance(answer, AutocompressError):
        raise answer
    return answer  # type: ignore[no-any-return]


def _ended(pid: int) -> int:
    """The exit status of a process that nobody waits for any more."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _collect() -> None:
    """Those that answered before. Freeing its memory takes a process longer than beginning it."""
    while _answered:
        _ended(_answered.pop())


def _answer(compute: Callable[[], object], read: int, write: int) -> None:
    """In the child: computes, says what came of it, and ends."""
    try:
        os.close(read)
        _end_with_the_parent()
        try:
            answer = compute()
        except AutocompressError as error:
            answer = error
        except Exception as error:
            answer = CandidateFailed(f"{type(error).__name__}: {one_line(error)}")
        try:
            said = pickle.dumps(answer)
        except Exception as error:
            said = pickle.dumps(CandidateFailed(f"what came of it cannot be handed on: {one_line(error)}"))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(said)
    finally:
        os._exit(0)  # nothing of the parent's is flushed or closed twice


def _end_with_the_parent() -> None:
    """Linux ends this process when the one that waits for it is gone."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

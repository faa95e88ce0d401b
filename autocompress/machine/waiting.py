"""What calls waited for a processor while the system ran others on it.

A call that is longer than a time slice is interrupted nearly every time where more wants to run than there are
processors, and a short one hardly ever: what they wait would make a fast file look faster than it is.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SCHEDULER = Path("/proc/thread-self/schedstat")  # ns on a processor, ns waited for one, turns (Linux, sched-stats.rst)


class Waits(NamedTuple):
    """Those of a thread for a processor. ms: milliseconds in all. turns: how often it was given one."""

    ms: float = 0.0
    turns: int = 0


Waited = Callable[[], Waits]  # of a thread since it began


def never_waited() -> Waits:
    """Where every moment counts, or the system does not tell."""
    return Waits()


@contextmanager
def waited_here(*, possible: bool, one_by_one: bool) -> Iterator[tuple[Waited, Waited]]:
    """While open, what is to be asked around each call, and what around each block of calls, by this thread alone; one
    of them never waited. possible: False where a wait adds nothing to a call's time, or belongs to it. one_by_one:
    where more than calls lies in a block, or where they count by weight; elsewhere a block is asked about, since to ask
    makes the next call of some microseconds 1 to 2 % slower.
    """
    with ExitStack() as stack:
        waited = _asking(stack) if possible else never_waited
        yield (waited, never_waited) if one_by_one else (never_waited, waited)


def _asking(stack: ExitStack) -> Waited:
    try:
        told = stack.enter_context(SCHEDULER.open("rb", buffering=0))
        _waits(told.read())
    except (OSError, IndexError, ValueError):
        return never_waited
    return lambda: _waits(os.pread(told.fileno(), 64, 0))


def _waits(told: bytes) -> Waits:
    _, waited, turns = told.split()[:3]
    return Waits(int(waited) / 1e6, int(turns))


def without_wait(ms: float, before: Waits, after: Waits) -> float:
    """What a call took without what was waited in it; as it is where it took less than that."""
    waited = after.ms - before.ms
    return ms - waited if 0 < waited < ms else ms


def without_waits(times: npt.NDArray[np.float64], before: Waits, after: Waits) -> npt.NDArray[np.float64]:
    """Milliseconds of the calls of a block without what was waited in all of them. There was a wait in as many calls as
    the thread was given a processor again, at most: in the longest ones. It is taken off them so that none is longer
    than a limit, and together they are as much shorter; none gets shorter than the shortest of the others, since what
    would make it so was waited between two calls.
    """
    waited, turns = after.ms - before.ms, min(max(1, after.turns - before.turns), len(times))
    if not 0 < waited < times.sum():
        return times
    longest = np.argsort(times)[::-1][:turns]
    limits = (np.cumsum(times[longest]) - waited) / np.arange(1, turns + 1)  # where so many of the longest are cut
    cut = np.append(times[longest][1:], 0.0) <= limits
    shortest = times.min() if turns < len(times) else 0.0
    shortened = times.copy()
    shortened[longest] = np.minimum(times[longest], max(limits[np.argmax(cut)], shortest))
    return shortened

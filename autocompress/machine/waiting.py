"""What calls waited for a processor while the system ran others on it.

A call that is longer than a time slice is interrupted nearly every time where more wants to run than there are
processors, and a short one hardly ever: what they wait would make a fast file look faster than it is.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

SCHEDULER = Path("/proc/thread-self/schedstat")  # ns on a processor, ns waited for one, turns (Linux, sched-stats.rst)

Waited = Callable[[], float]  # milliseconds that a thread waited for a processor since it began


def never_waited() -> float:
    """Where every moment counts, or the system does not tell."""
    return 0.0


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
        int(told.read().split()[1])
    except (OSError, IndexError, ValueError):
        return never_waited
    return lambda: int(os.pread(told.fileno(), 64, 0).split()[1]) / 1e6


def without_wait(ms: float, waited: float) -> float:
    """What a call took without what was waited in it; as it is where it took less than that."""
    return ms - waited if 0 < waited < ms else ms


def without_waits(times: npt.NDArray[np.float64], waited: float) -> npt.NDArray[np.float64]:
    """Milliseconds of the calls of a block without what was waited in all of them, which is taken off the longest: none
    is longer than a limit then, and together they are as much shorter. As they are where they took less than that.
    """
    if not 0 < waited < times.sum():
        return times
    falling = np.sort(times)[::-1]
    limits = (np.cumsum(falling) - waited) / np.arange(1, len(times) + 1)  # where so many of the longest are cut
    cut = np.append(falling[1:], 0.0) <= limits
    shortened: npt.NDArray[np.float64] = np.minimum(times, limits[np.argmax(cut)])
    return shortened

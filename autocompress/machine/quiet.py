"""Which blocks of a session were quiet, by how fast the reference is known to be. Pure.

On a shared processor the state of the machine changes every 10 to 100 ms, or stays as it is for a second,
and it slows files unequally: small and int8 ones more than a float reference. The reference, timed before and after
each block, tells the state: a block counts as quiet when the reference ran at nearly its fastest on both sides of it.
"""

import math
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .blocks import Milliseconds

NEAR_FASTEST = 1.08  # times the fastest
USUALLY_SLOWED = math.sqrt(NEAR_FASTEST)  # times the fastest, in quiet blocks: the middle of what is near
FASTEST = 5.0  # percentile of the reference's blocks in a session that counts as its fastest there
QUIETEST = 4  # one block in so many of a session that had too few quiet ones
MINUTES = 5.0  # of the reference's last blocks that say how fast it can be


class RecentBlocks:
    """What the reference's blocks of the last minutes say: how fast it runs when nobody disturbs it. Each session
    counts alike, since a busy one has ten times as many blocks as a quiet one.
    """

    def __init__(self) -> None:
        self._fastest: deque[tuple[float, float]] = deque()

    def add(self, at_s: float, medians: Milliseconds) -> None:
        """The blocks of a session that ended at ``at_s``, in seconds."""
        self._fastest.append((at_s, float(np.percentile(medians, FASTEST))))

    def known(self, now_s: float) -> float:
        """Milliseconds; infinite where nothing is known."""
        while self._fastest and self._fastest[0][0] < now_s - MINUTES * 60:
            self._fastest.popleft()
        return min((known for _, known in self._fastest), default=math.inf)

    def fastest(self, now_s: float, medians: Milliseconds) -> float:
        """Milliseconds, with the blocks of a session that is still going on."""
        return min(self.known(now_s), float(np.percentile(medians, FASTEST)))


def counting(known_ms: float | None) -> Callable[[Milliseconds], int]:
    """What counts the quiet blocks of a session that is going on, from the reference's medians so far. known_ms: of the
    reference when nobody disturbs it, as far as that is known from before; None where every block counts.
    """

    def count(medians: Milliseconds) -> int:
        if known_ms is None:
            return len(medians) - 1
        return int(quiet(medians, min(known_ms, float(np.percentile(medians, FASTEST)))).sum())

    return count


def quietest(reference: Milliseconds, fewest: int) -> npt.NDArray[np.bool_]:
    """Of the reference's medians, the quarter of the blocks between two of them beside which it was fastest; ``fewest``
    at least.
    """
    slower = np.maximum(reference[:-1], reference[1:])
    found = np.zeros(len(slower), bool)
    found[np.argsort(slower, kind="stable")[: max(fewest, len(slower) // QUIETEST)]] = True
    return found


def quiet(reference: Milliseconds, fastest: float) -> npt.NDArray[np.bool_]:
    """Of the reference's medians, which of the blocks between two of them were quiet."""
    near = reference <= NEAR_FASTEST * fastest
    return near[:-1] & near[1:]

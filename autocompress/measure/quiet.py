"""Which blocks of a session were quiet, by how fast the reference is known to be. Pure.

On a shared processor the state of the machine changes every 10 to 100 ms, or stays as it is for a second,
and it slows files unequally: small and int8 ones more than a float reference. The reference, timed before and after
each block, tells the state: a block counts as quiet when the reference ran at nearly its fastest on both sides of it.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from autocompress.arrays import Floats
from autocompress.comparison import TimingSession, TimingSessions

NEAR_FASTEST = 1.08  # times the fastest
FASTEST = 5.0  # percentile of the reference's blocks in a session that counts as its fastest there
MINUTES = 5.0  # of the reference's last blocks that say how fast it can be


class RecentBlocks:
    """What the reference's blocks of the last minutes say: how fast it runs when nobody disturbs it. Each session
    counts alike, since a busy one has ten times as many blocks as a quiet one.
    """

    def __init__(self) -> None:
        self._fastest: deque[tuple[float, float]] = deque()

    def add(self, at_s: float, medians: Floats) -> None:
        """The blocks of a session that ended at ``at_s``, in seconds."""
        self._fastest.append((at_s, float(np.percentile(medians, FASTEST))))

    def fastest(self, now_s: float, medians: Floats) -> float:
        """Milliseconds, with the blocks of a session that is still going on."""
        while self._fastest and self._fastest[0][0] < now_s - MINUTES * 60:
            self._fastest.popleft()
        return min([float(np.percentile(medians, FASTEST)), *(known for _, known in self._fastest)])


def quiet(reference: Floats, fastest: float) -> npt.NDArray[np.bool_]:
    """Of the reference's medians, which of the blocks between two of them were quiet."""
    near = reference <= NEAR_FASTEST * fastest
    return near[:-1] & near[1:]


@dataclass(frozen=True)
class ReferenceSpeed:
    """How fast the reference was seen to be. fastest: milliseconds of a call, by the minute since the epoch."""

    fastest: Mapping[int, float] = field(default_factory=dict)

    def near(self, at_s: float) -> float:
        """Milliseconds, in the minutes around a moment; infinite where nothing is known of them."""
        minute, reach = int(at_s // 60), int(MINUTES)
        return min(self.fastest.get(minute + away, math.inf) for away in range(-reach, reach + 1))

    def beaten_by(self, sessions: Iterable[TimingSession]) -> bool:
        """Whether sessions show that it can be faster than was known of their minutes."""
        return any(session.fastest < self.near(session.at_s) for session in sessions)

    def after(self, sessions: Iterable[TimingSession]) -> "ReferenceSpeed":
        """What is known after further sessions."""
        fastest = dict(self.fastest)
        for session in sessions:
            minute = int(session.at_s // 60)
            fastest[minute] = min(session.fastest, fastest.get(minute, math.inf))
        return ReferenceSpeed(fastest)


def requalified(sessions: TimingSessions, speed: ReferenceSpeed) -> TimingSessions:
    """Sessions as they count by what all sessions have shown: one beside which the reference was slower all the time
    than it can be had no quiet block. The same value when nothing changes.
    """
    slow = [s.quiet > 0 and s.reference > NEAR_FASTEST * speed.near(s.at_s) for s in sessions]
    if not any(slow):
        return sessions
    return tuple(replace(s, quiet=0) if busy else s for s, busy in zip(sessions, slow, strict=True))

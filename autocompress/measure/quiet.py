"""Which sessions were quiet, by what all of a run have shown of the reference. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from autocompress.comparison import TimingSession, TimingSessions
from autocompress.machine.quiet import MINUTES, NEAR_FASTEST


@dataclass(frozen=True)
class ReferenceSpeed:
    """How fast the reference was seen to be. fastest: milliseconds of a call, by the minute since the epoch, on each
    device.
    """

    fastest: Mapping[tuple[str, int], float] = field(default_factory=dict)

    def near(self, at_s: float, device: str = "") -> float:
        """Milliseconds, in the minutes around a moment; infinite where nothing is known of them."""
        minute, reach = int(at_s // 60), int(MINUTES)
        return min(self.fastest.get((device, minute + away), math.inf) for away in range(-reach, reach + 1))

    def beaten_by(self, sessions: Iterable[TimingSession]) -> bool:
        """Whether sessions show that it can be faster than was known of their minutes."""
        return any(session.fastest < self.near(session.at_s, session.device) for session in sessions)

    def after(self, sessions: Iterable[TimingSession]) -> "ReferenceSpeed":
        """What is known after further sessions."""
        fastest = dict(self.fastest)
        for session in sessions:
            key = session.device, int(session.at_s // 60)
            fastest[key] = min(session.fastest, fastest.get(key, math.inf))
        return ReferenceSpeed(fastest)


def requalified(sessions: TimingSessions, speed: ReferenceSpeed) -> TimingSessions:
    """Sessions as they count by what all sessions have shown: one beside which the reference was slower all the time
    than it can be had no quiet block. The same value when nothing changes.
    """
    slow = [s.quiet > 0 and s.reference > NEAR_FASTEST * speed.near(s.at_s, s.device) for s in sessions]
    if not any(slow):
        return sessions
    return tuple(replace(s, quiet=0) if busy else s for s, busy in zip(sessions, slow, strict=True))

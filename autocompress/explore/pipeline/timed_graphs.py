"""The timing sessions of each graph: a file of a graph that is known well enough is not timed again."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from autocompress.comparison import TimingSession
from autocompress.measure import ReferenceSpeed, requalified

WELL_KNOWN, AT_MOST = 3, 4  # quiet sessions of what is trained in full or on the front, and sessions on a busy machine
JUDGING_SESSIONS = 3, 7  # of a file that may be recommended, begun after it was chosen; 7 where 3 leave it open
SESSION_PARTS = 625  # of a search's time, of which a session takes one
SESSION_S = (0.1, 1.5)  # seconds of one, at least and at most
MOST_SHARE = 0.05  # of the time so far; what is timed beyond that is timed for SHORTEST_S alone
WHOLE_SHARE = 0.05  # of a search's time on a quiet machine; beyond it nothing is timed but what a verdict needs
SHORTEST_S = 0.02  # four short blocks of each file
BUSY_IN_A_ROW = 3  # busy sessions in a row, after which those to come are not expected to find quiet moments


def session_s(limit_s: float) -> float:
    """Seconds that one session may take. limit_s: those of the whole search."""
    least, most = SESSION_S
    return min(most, max(least, limit_s / SESSION_PARTS))


class TimedGraphs:
    """What a search has timed so far, by the digest of the graph. spent_s: seconds that it took."""

    def __init__(self) -> None:
        self._sessions: defaultdict[str, list[TimingSession]] = defaultdict(list)
        self._speed = ReferenceSpeed()
        self.spent_s = 0.0

    def affordable_s(self, wanted_s: float, elapsed_s: float) -> float:
        """Seconds for the next session, that measuring keeps to its share of the time."""
        return min(wanted_s, max(SHORTEST_S, MOST_SHARE * elapsed_s - self.spent_s))

    def left_s(self, limit_s: float) -> float:
        """Seconds that measuring may still take: more, up to twice as many, the more sessions found the machine busy.
        limit_s: those of the whole search, or so far.
        """
        sessions = [session for graph in self._sessions for session in self.of(graph)]
        busy = sum(session.busy for session in sessions) / len(sessions) if sessions else 0.0
        return max(0.0, WHOLE_SHARE * (1 + busy) * limit_s - self.spent_s)

    def of(self, graph: str) -> Sequence[TimingSession]:
        """As they count by now."""
        return requalified(tuple(self._sessions.get(graph, ())), self._speed)

    def add(self, graph: str, sessions: Iterable[TimingSession]) -> None:
        """Each session counts once."""
        known = self._sessions[graph]
        new = [session for session in sessions if session not in known]
        known += new
        self.spent_s += sum(session.seconds for session in new)
        self._speed = self._speed.after(new)

    def in_vain(self) -> bool:
        """Whether to wait for quiet moments is hopeless: the last sessions found none."""
        sessions = sorted((s for graph in self._sessions for s in self.of(graph)), key=lambda session: session.at_s)
        return len(sessions) >= BUSY_IN_A_ROW and all(session.busy for session in sessions[-BUSY_IN_A_ROW:])

    def known(self, graph: str) -> bool:
        """Whether a graph needs no further session to decide what is tried next: one does."""
        return bool(self._sessions.get(graph))

    def well_known(self, graph: str) -> bool:
        """Whether it needs none to be trained in full, or to be on the front at the end."""
        sessions = self.of(graph)
        return sum(not session.busy for session in sessions) >= WELL_KNOWN or len(sessions) >= AT_MOST

"""Which blocks of a session were quiet, and what the session says. Pure.

On a shared processor the state of the machine changes every 10 to 100 ms, and it slows files unequally: small and int8
ones more than a float reference. The reference, timed before and after each block,
tells the state: a block counts as quiet when the reference ran at nearly its fastest on both sides of it.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from autocompress.arrays import Floats
from autocompress.comparison import Blocks, TimingSession, TimingSessions, is_busy

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
        while self._fastest[0][0] < at_s - MINUTES * 60:
            self._fastest.popleft()

    def fastest(self, medians: Floats) -> float:
        """Milliseconds, with the blocks of a session that is still going on."""
        return min([float(np.percentile(medians, FASTEST)), *(known for _, known in self._fastest)])


def quiet(reference: Floats, fastest: float) -> npt.NDArray[np.bool_]:
    """Of the reference's medians, which of the blocks between two of them were quiet."""
    near = reference <= NEAR_FASTEST * fastest
    return near[:-1] & near[1:]


def session_of(blocks: Blocks, fastest: float, percentile: float) -> TimingSession:
    """What a session says. fastest: milliseconds of the reference when nobody disturbs it. percentile: the profile's,
    0..100. With too few quiet blocks all count, and the session is busy.
    """
    log_ratios = np.log([float(np.median(block)) for block in blocks.candidate]) - _log_beside(blocks)
    were_quiet = quiet(blocks.reference, fastest)
    count = int(were_quiet.sum())
    counted = np.ones_like(were_quiet) if is_busy(count, len(were_quiet)) else were_quiet
    calls = np.concatenate([block for block, counts in zip(blocks.candidate, counted, strict=True) if counts])
    statistic, p50, p90 = (float(value) for value in np.percentile(calls, [percentile, 50, 90]))
    reference = float(np.exp(np.median(_log_beside(blocks)[counted])))
    return TimingSession(
        log_ratio=float(np.median(log_ratios[counted])),
        log_ratio_of_all=float(np.median(log_ratios)),
        statistic=statistic,
        p50=p50,
        p90=p90,
        reference=reference,
        quiet=count,
        blocks=len(log_ratios),
        slowed=reference / fastest,
    )


def _log_beside(blocks: Blocks) -> Floats:
    """The logarithm of the reference's milliseconds around each block of the candidate."""
    logs: Floats = np.log(blocks.reference)
    return (logs[:-1] + logs[1:]) / 2


def requalified(sessions: TimingSessions, others: Iterable[TimingSession]) -> TimingSessions:
    """Sessions as they count, after what ``others`` of the same minutes have shown: one beside which the reference was
    slower all the time than it can be had no quiet block. The same value when nothing changes.
    """
    for other in others:
        fastest = NEAR_FASTEST * other.reference / other.slowed
        if any(_slower(session, other, fastest) for session in sessions):
            sessions = tuple(replace(s, quiet=0) if _slower(s, other, fastest) else s for s in sessions)
    return sessions


def _slower(session: TimingSession, other: TimingSession, fastest: float) -> bool:
    near = abs(other.at_s - session.at_s) <= MINUTES * 60
    return near and session.quiet > 0 and session.reference > fastest

"""Which blocks of a session were quiet, and what the session says. Pure.

On a shared processor the state of the machine changes every 10 to 100 ms, and it slows files unequally: small and int8
ones more than a float reference. The reference, timed before and after each block,
tells the state: a block counts as quiet when the reference ran at nearly its fastest on both sides of it.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

from autocompress.arrays import Floats
from autocompress.comparison import Blocks, TimingSession, is_busy

NEAR_FASTEST = 1.08  # times the fastest
FASTEST = 2.0  # percentile of the reference's blocks that counts as its fastest
MINUTES = 5.0  # of the reference's last blocks that say how fast it can be


class RecentBlocks:
    """The reference's blocks of the last minutes: how fast it runs when nobody disturbs it."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[float, Floats]] = deque()

    def add(self, at_s: float, medians: Floats) -> None:
        """The blocks of a session that ended at ``at_s``, in seconds."""
        self._blocks.append((at_s, medians))
        while self._blocks[0][0] < at_s - MINUTES * 60:
            self._blocks.popleft()

    def fastest(self, medians: Floats) -> float:
        """Milliseconds, with the blocks of a session that is still going on."""
        known = [blocks for _, blocks in self._blocks]
        return float(np.percentile(np.concatenate([*known, medians]), FASTEST))


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

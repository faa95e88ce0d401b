"""What a session says: the statistics of its blocks. Pure."""

import numpy as np

from autocompress.arrays import Floats
from autocompress.comparison import FEWEST_QUIET, TimingSession, is_busy
from autocompress.machine.blocks import Blocks
from autocompress.machine.quiet import quiet, quietest

FEWEST_CALLS = 8  # in quiet blocks, below which percentiles are of all calls: these say less about a tail


def session_of(blocks: Blocks, fastest: float, percentile: float) -> TimingSession:
    """What a session says. fastest: milliseconds of the reference when nobody disturbs it. percentile: the profile's,
    0..100. With too few quiet blocks the session is busy: the quietest count, and percentiles are of all calls, as with
    too few calls in quiet blocks.
    """
    log_ratios = np.log([float(np.median(block)) for block in blocks.candidate]) - _log_beside(blocks)
    were_quiet = quiet(blocks.reference, fastest)
    count = int(were_quiet.sum())
    busy = is_busy(count, len(were_quiet))
    counted = quietest(blocks.reference, FEWEST_QUIET) if busy else were_quiet
    every = np.concatenate(blocks.candidate)
    calls = np.concatenate([block for block, counts in zip(blocks.candidate, counted, strict=True) if counts])
    p50 = float(np.percentile(calls, 50))
    if busy or len(calls) < FEWEST_CALLS:
        calls = every
    statistic, p90 = (float(value) for value in np.percentile(calls, [percentile, 90]))
    reference = float(np.exp(np.median(_log_beside(blocks)[counted])))
    return TimingSession(
        log_ratio=float(np.median(log_ratios[counted])),
        log_ratio_of_all=float(np.median(log_ratios)),
        statistic=statistic,
        statistic_of_all=float(np.percentile(every, percentile)),
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

"""Whether a file keeps a limit, from its sessions. Pure.

A limit is met when one more session will find it kept: the upper end of the next session's interval is within it. It is
not met when what the quiet sessions estimate is over it: the lower end of their interval. Both are one-sided, 97.5 %
at each of two looks. A busy machine alone refutes nothing.
"""

import math
from collections.abc import Callable, Sequence

from autocompress.comparison import TimingSession
from autocompress.measure.intervals import of_the_mean, of_the_next
from autocompress.verdict import Verdict

FEWEST_QUIET_SESSIONS = 2  # that refute a claim
BUSY = "too few moments were quiet; measure again when less runs beside"
BOTH_ENDS = 0.95  # a two-sided interval, each of whose ends holds with 97.5 %


def ratio_verdict(sessions: Sequence[TimingSession], limit: float) -> Verdict:
    """Whether a file's time over the reference's stays within ``limit``."""
    return _verdict(sessions, limit, lambda session: session.log_ratio, lambda ratio: f"{ratio:.3g} of its time")


def ms_verdict(sessions: Sequence[TimingSession], limit: float) -> Verdict:
    """Whether the profile's percentile stays within ``limit`` milliseconds. In a busy session every call counts: a
    neighbour only adds time, so that what is within the limit there is within it.
    """
    return _verdict(sessions, limit, lambda session: math.log(session.statistic), lambda ms: f"{ms:.4g} ms")


def _verdict(
    sessions: Sequence[TimingSession],
    limit: float,
    log_of: Callable[[TimingSession], float],
    shown: Callable[[float], str],
) -> Verdict:
    quiet = [session for session in sessions if not session.busy]
    sure = len(quiet) >= FEWEST_QUIET_SESSIONS
    values = [log_of(session) for session in (quiet if sure else sessions)]
    low, high = math.exp(of_the_mean(values, BOTH_ENDS)[0]), math.exp(of_the_next(values, BOTH_ENDS)[1])
    if high <= limit:
        return Verdict("met", f"at most {shown(high)} in the next session, {shown(limit)} is the limit")
    if sure and low > limit:
        return Verdict("not met", f"at least {shown(low)}, {shown(limit)} is the limit")
    why = "too close to tell" if sure else BUSY
    return Verdict("undecided", f"between {shown(low)} and {shown(high)}, {shown(limit)} is the limit: {why}")

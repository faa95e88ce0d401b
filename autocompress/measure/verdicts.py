"""Whether a file keeps a limit, from its sessions. Pure.

A limit is met when somebody who measures once more will find it kept: the upper end of the next session's interval is
within it. It is not met when what the sessions estimate is over it: the lower end of the estimate's interval. Both are
one-sided, 95 %.
"""

import math
from collections.abc import Sequence

from autocompress.comparison import TimingSession
from autocompress.measure.intervals import Spread, of_the_mean, of_the_next, own_or_pooled
from autocompress.verdict import Verdict

BUSY = "too few moments were quiet; measure again when less runs beside"
ONE_SIDED = 0.90  # a two-sided interval, each of whose ends holds with 95 %


def ratio_verdict(sessions: Sequence[TimingSession], shared: Spread, limit: float) -> Verdict:
    """Whether a file's time over the reference's stays within ``limit``. shared: the spread of all graphs together."""
    values = [session.log_ratio for session in sessions]
    spread = own_or_pooled(values, shared)
    low, _ = _exp(of_the_mean(values, spread, ONE_SIDED))
    _, next_high = _exp(of_the_next(values, spread, ONE_SIDED))
    if next_high <= limit:
        return Verdict("met", f"at least {1 / next_high:.3g}x faster in the next session, {1 / limit:.3g}x is asked")
    if low > limit:
        return Verdict("not met", f"at most {1 / low:.3g}x faster, {1 / limit:.3g}x is asked")
    between = f"between {1 / next_high:.3g}x and {1 / low:.3g}x faster, {1 / limit:.3g}x is asked"
    return Verdict("undecided", f"{between}: {_more(sessions)}")


def ms_verdict(sessions: Sequence[TimingSession], shared: Spread, limit: float) -> Verdict:
    """Whether the profile's percentile stays within ``limit`` milliseconds. shared: the spread of percentiles, pooled
    over all graphs. In a busy session every call counts: a neighbour only adds time, so that what is within the budget
    there is within it.
    """
    values = [math.log(session.statistic) for session in sessions]
    spread = own_or_pooled(values, shared)
    low, _ = _exp(of_the_mean(values, spread, ONE_SIDED))
    _, next_high = _exp(of_the_next(values, spread, ONE_SIDED))
    if next_high <= limit:
        return Verdict("met", f"at most {next_high:.4g} ms in the next session, the budget is {limit:g} ms")
    quiet = [session for session in sessions if not session.busy]
    if not quiet:
        return Verdict("undecided", f"up to {next_high:.4g} ms on a busy machine, the budget is {limit:g} ms: {BUSY}")
    if len(quiet) < len(sessions):
        return ms_verdict(quiet, shared, limit)
    if low > limit:
        return Verdict("not met", f"at least {low:.4g} ms, the budget is {limit:g} ms")
    between = f"between {low:.4g} and {next_high:.4g} ms, the budget is {limit:g} ms"
    return Verdict("undecided", f"{between}: {_more(sessions)}")


def _more(sessions: Sequence[TimingSession]) -> str:
    return BUSY if any(session.busy for session in sessions) else "too close to tell"


def _exp(interval: tuple[float, float]) -> tuple[float, float]:
    return math.exp(interval[0]), math.exp(interval[1])

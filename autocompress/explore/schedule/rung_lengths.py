"""The lengths of the rungs over all processes of a search, and when they turn out too short."""

from collections.abc import Sequence

from autocompress.explore.policy import SearchPolicy
from autocompress.explore.progress import Progress
from autocompress.explore.schedule.rungs import Length
from autocompress.explore.schedule.time_budget import TimeBudget
from autocompress.explore.standings.rank_correlation import FEWEST_TRAINED_ON
from autocompress.explore.standings.standings import Standings

LEAST_CORRELATION = 0.5  # between the first rung and the last, below which the rungs get longer
CORRELATION_SETTLED_AT = 30  # families trained on, after which it will not change any more


def kept_lengths(progress: Progress, first: Sequence[Length]) -> Sequence[Length]:
    """Those of an earlier process, whose families are compared with those of this one; else ``first``, from now on."""
    if not progress.lengths:
        _keep(progress, first, lengthened=False)
    return [Length(*length) for length in progress.lengths]


def lengthen(time: TimeBudget, standings: Standings, progress: Progress, policy: SearchPolicy) -> str | None:
    """Make all rungs longer, once, when the first one says little of the last; what a user should know of it."""
    if progress.is_lengthened or len(standings.trained_on) > CORRELATION_SETTLED_AT:
        return None
    foretold = standings.rank_correlation(FEWEST_TRAINED_ON)
    if foretold is None or foretold >= LEAST_CORRELATION:
        return None
    time.lengthen(policy.eta)
    _keep(progress, time.lengths, lengthened=True)
    return (
        f"the first training says little of the last (rank correlation {foretold:.2f}): from now on it is "
        f"{policy.eta} times as long"
    )


def _keep(progress: Progress, lengths: Sequence[Length], *, lengthened: bool) -> None:
    progress.keep_lengths([(length.seconds, length.examples) for length in lengths], lengthened=lengthened)

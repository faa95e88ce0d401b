"""Which of a family's files are worth timing or scoring, by latency. Pure."""

from collections.abc import Mapping

from autocompress.budget import Budget
from autocompress.explore.pipeline.variants import Ratios
from autocompress.latency import Latency
from autocompress.recipe import Step
from autocompress.verdict import FAR_OVER

FASTER = 0.97  # of its source's latency, below which a variant counts as faster
FASTER_BUSY = 1.0  # the same on a busy machine, where one that is faster may seem hardly so


def no_faster(latency: Latency, source: Latency) -> bool:
    """Whether a variant is no faster than the float file it was made from."""
    faster = FASTER if latency.quiet and source.quiet else FASTER_BUSY
    return latency.ratio > faster * source.ratio


def too_slow(latency: Latency, worth_below: float | None) -> bool:
    """Whether a file is surely at or above a latency ratio."""
    return worth_below is not None and latency.quiet and latency.ratio_low >= worth_below


def is_far_over(timed: Mapping[Step | None, Latency], ratios: Ratios, budget: Budget) -> bool:
    """Whether the float file of a structure need not be timed: a variant that was much faster on the reference is far
    over the budget.
    """
    known = dict(ratios)
    return any(
        variant is not None
        and known[variant] * FAR_OVER <= 1
        and budget.ruled_out(latency)
        and budget.excess(latency) >= FAR_OVER - 1
        for variant, latency in timed.items()
    )

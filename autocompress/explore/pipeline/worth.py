"""Which of a family's files are worth scoring, by their latency. Pure."""

from autocompress.latency import Latency

FASTER = 0.97  # of its source's latency, below which a variant counts as faster
FASTER_BUSY = 1.25  # the same on a busy machine, which slows some files more than others


def no_faster(latency: Latency, source: Latency) -> bool:
    """Whether a variant is no faster than the float file it was made from."""
    if latency.quiet and source.quiet:
        return latency.ratio > FASTER * source.ratio
    return latency.ratio_low > FASTER_BUSY * source.ratio


def too_slow(latency: Latency, worth_below: float | None) -> bool:
    """Whether a file is surely at or above a latency ratio."""
    return worth_below is not None and latency.quiet and latency.ratio_low >= worth_below

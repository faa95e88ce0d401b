"""Which of a family's files are worth scoring, by their latency. Pure."""

from autocompress.latency import Latency

FASTER = 0.97  # of its source's latency, below which a variant counts as faster
FASTER_BUSY = 1.0  # the same on a busy machine, where one that is faster may seem hardly so


def no_faster(latency: Latency, source: Latency) -> bool:
    """Whether a variant is no faster than the float file it was made from."""
    faster = FASTER if latency.quiet and source.quiet else FASTER_BUSY
    return latency.ratio > faster * source.ratio


def too_slow(latency: Latency, worth_below: float | None) -> bool:
    """Whether a file is surely at or above a latency ratio."""
    return worth_below is not None and latency.quiet and latency.ratio_low >= worth_below

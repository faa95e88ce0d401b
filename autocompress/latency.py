"""How long one call of a file takes, alone and beside the reference."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call. low, high: 95 % interval of the profile's statistic.

    ratio: paired median ratio to the reference, < 1 is faster, with its 95 % interval.
    reliable: False when a neighbour disturbed the measurement and repeating neither helped nor gave the same.
    """

    p50: float
    p90: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    statistic: float  # the profile's statistic; equals p90 unless the profile names another
    reliable: bool = True

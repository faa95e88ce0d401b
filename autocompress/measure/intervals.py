"""What several sessions of one pair of files say together: their spread, and intervals. Pure.

Values are natural logarithms, so that spreads are shares. An interval over the calls of one session says nothing about
the next one; the spread between sessions does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from autocompress.comparison import RatioEstimate, Relation, TimingSession

ASSUMED_SD = 0.02  # of a session's logarithm, until sessions say otherwise
ASSUMED_DF = 8  # as if known from so many degrees of freedom
CONFIDENCE = 0.95
LOOK_CONFIDENCE = 0.975  # of each of two looks, so that both together keep 95 %


@dataclass(frozen=True)
class Spread:
    """The standard deviation of one session's logarithm around the mean of many, and its degrees of freedom."""

    sd: float
    df: float

    def reach(self, confidence: float) -> float:
        """How far around the mean, by Student's t, a two-sided interval of one session goes."""
        return float(stdtrit(self.df, (1 + confidence) / 2)) * self.sd


def spread_of(values: Sequence[float], confidence: float = CONFIDENCE) -> Spread:
    """The sessions' own spread taken together with what is assumed; their own alone where that reaches farther: nothing
    but an assumption stands against it.
    """
    own_df = len(values) - 1
    squares = float(np.var(values)) * len(values)
    df = ASSUMED_DF + own_df
    blended = Spread(math.sqrt((ASSUMED_DF * ASSUMED_SD**2 + squares) / df), df)
    if not own_df:
        return blended
    own = Spread(math.sqrt(squares / own_df), own_df)
    return max(blended, own, key=lambda spread: spread.reach(confidence))


def of_the_mean(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided interval of what the sessions estimate."""
    half = spread_of(values, confidence).reach(confidence) / math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def of_the_next(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided interval of what one more session of this process will say."""
    half = spread_of(values, confidence).reach(confidence) * math.sqrt(1 + 1 / len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def ratio_of(sessions: Sequence[TimingSession], confidence: float = CONFIDENCE) -> RatioEstimate:
    """What the sessions of two files say about the ratio of their times."""
    values = [session.log_ratio for session in sessions]
    low, high = of_the_mean(values, confidence)
    next_low, next_high = of_the_next(values, confidence)
    return RatioEstimate(
        ratio=math.exp(float(np.mean(values))),
        low=math.exp(low),
        high=math.exp(high),
        next_low=math.exp(next_low),
        next_high=math.exp(next_high),
        ratio_of_all=math.exp(float(np.mean([session.log_ratio_of_all for session in sessions]))),
        sessions=len(sessions),
        busy=sum(session.busy for session in sessions),
    )


def relation(estimate: RatioEstimate, within: float) -> Relation:
    """How a file's time stands to the reference's. within: what counts as the same, as a share."""
    if 1 - within <= estimate.low and estimate.high <= 1 + within:
        return "same"
    if estimate.high < 1:
        return "faster"
    return "slower" if estimate.low > 1 else "undecided"

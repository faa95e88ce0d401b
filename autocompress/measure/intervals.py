"""What several sessions say together: their spread, pooled over all graphs, and intervals. Pure.

Values are natural logarithms, so that spreads are shares. An interval over the calls of one session says nothing about
the next one; the spread between sessions does, and it is known once the sessions of many graphs are taken together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri, stdtrit

from autocompress.comparison import RatioEstimate, Relation, TimingSession

ASSUMED_SD = 0.02  # of a session's logarithm, until sessions say otherwise
ASSUMED_DF = 8  # as if known from so many degrees of freedom
WIDER = 0.99  # a graph's own spread is used when the F test says so with this confidence
CONFIDENCE = 0.95
LOOK_CONFIDENCE = 0.975  # of each of two looks, so that both together keep 95 %


@dataclass(frozen=True)
class Spread:
    """The standard deviation of one session's logarithm around the mean of many, and its degrees of freedom."""

    sd: float = ASSUMED_SD
    df: float = ASSUMED_DF


def pooled(graphs: Sequence[Sequence[float]]) -> Spread:
    """The spread that all graphs share, from the logarithms of each one's sessions and what is assumed beforehand."""
    squares, df = ASSUMED_DF * ASSUMED_SD**2, float(ASSUMED_DF)
    for values in graphs:
        if len(values) > 1:
            squares += float(np.var(values)) * len(values)
            df += len(values) - 1
    return Spread(math.sqrt(squares / df), df)


def own_or_pooled(values: Sequence[float], shared: Spread) -> Spread:
    """A graph's own spread where its sessions spread clearly wider than those of the others (F test)."""
    if len(values) < 2:
        return shared
    own = Spread(float(np.std(values, ddof=1)), len(values) - 1)
    clearly = own.sd**2 > shared.sd**2 * float(fdtri(own.df, shared.df, WIDER))
    return own if clearly else shared


def of_the_mean(values: Sequence[float], spread: Spread, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided interval of what the sessions estimate."""
    half = _quantile(spread, confidence) * spread.sd / math.sqrt(len(values))
    mean = float(np.mean(values))
    return mean - half, mean + half


def of_the_next(values: Sequence[float], spread: Spread, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided interval of what one more session will say."""
    half = _quantile(spread, confidence) * spread.sd * math.sqrt(1 + 1 / len(values))
    mean = float(np.mean(values))
    return mean - half, mean + half


def ratio_of(sessions: Sequence[TimingSession], shared: Spread, confidence: float = CONFIDENCE) -> RatioEstimate:
    """What the sessions of one graph say about its ratio. shared: the spread of all graphs of the run."""
    values = [session.log_ratio for session in sessions]
    spread = own_or_pooled(values, shared)
    low, high = of_the_mean(values, spread, confidence)
    next_low, next_high = of_the_next(values, spread, confidence)
    return RatioEstimate(
        ratio=math.exp(float(np.mean(values))),
        low=math.exp(low),
        high=math.exp(high),
        next_low=math.exp(next_low),
        next_high=math.exp(next_high),
        ratio_of_all=math.exp(float(np.mean([session.log_ratio_of_all for session in sessions]))),
        sd=spread.sd,
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


def _quantile(spread: Spread, confidence: float) -> float:
    return float(stdtrit(spread.df, (1 + confidence) / 2))

"""Statistics of a file's blocks of calls beside the reference's. Pure: arrays in, numbers out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autocompress.arrays import Floats
from autocompress.latency import Latency

RATIO_RESAMPLES = 400


NOISY_TAIL = 1.3  # the reference's p90 / p50 above which a neighbour is at work


DRIFT = 1.15  # ratio of the reference's medians in the two halves


FASTER = 0.97  # of its source's latency, below which a variant counts as faster
DISTURBED = 1.25  # times the source's latency, above which it is not even when the machine was disturbed
AGREEING = 3  # disturbed measurements of one graph, and most of them, that count together when their ratios


ALIKE = 1.1  # differ by no more than this, the largest over the smallest


def summarise(ours: Sequence[Floats], theirs: Sequence[Floats], percentile: float, seed: int = 0) -> Latency:
    """Paired statistics of equally many blocks of call times in ms.

    The ratio is the median over pairs of (median of our block / median of theirs); intervals are 95 % bootstrap over
    blocks.
    """
    ratios = np.array([np.median(a) / np.median(b) for a, b in zip(ours, theirs, strict=True)])
    draws = np.random.default_rng(seed).integers(0, len(ratios), (RATIO_RESAMPLES, len(ratios)))
    ratio_low, ratio_high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    calls = np.concatenate(ours)
    # A block's own percentile is a noisy estimate of the whole's, but its spread over blocks gives the interval's
    # width.
    each = np.array([np.percentile(block, percentile) for block in ours])
    spread = np.percentile(np.median(each[draws], axis=1) - np.median(each), [2.5, 97.5])
    statistic = float(np.percentile(calls, percentile))
    return Latency(
        p50=float(np.median(calls)),
        p90=float(np.percentile(calls, 90)),
        low=max(0.0, statistic + float(spread[0])),
        high=statistic + float(spread[1]),
        ratio=float(np.median(ratios)),
        ratio_low=float(ratio_low),
        ratio_high=float(ratio_high),
        statistic=statistic,
    )


def is_quiet(reference: Sequence[Floats]) -> bool:
    """Whether the reference, the sentinel, ran undisturbed: a short tail and no drift."""
    calls = np.concatenate(reference)
    middle = float(np.median(calls))
    half = len(reference) // 2
    first = float(np.median(np.concatenate(reference[:half]))) if half else middle
    last = float(np.median(np.concatenate(reference[half:])))
    drift = max(first, last) / max(min(first, last), 1e-9)
    return float(np.percentile(calls, 90)) / max(middle, 1e-9) <= NOISY_TAIL and drift <= DRIFT


def settled(latencies: Sequence[Latency]) -> Latency | None:
    """What several measurements of one graph say: the sound one with the middle ratio, of an even number the slower
    one. Where all were disturbed, the most of them whose ratios agree, at the slowest of their ratios and of their
    milliseconds; None when they are too few.
    """
    ordered = sorted(latencies, key=lambda latency: latency.ratio)
    sound = [latency for latency in ordered if latency.reliable]
    if sound:
        return sound[len(sound) // 2]
    near = [[m for m in ordered if 1 <= m.ratio / least.ratio <= ALIKE] for least in ordered]
    agreeing = max(near, key=len, default=[])
    if len(agreeing) < max(AGREEING, len(ordered) // 2 + 1):
        return None
    slow, ratio = max(agreeing, key=lambda latency: latency.statistic), agreeing[-1]
    return replace(slow, ratio=ratio.ratio, ratio_low=ratio.ratio_low, ratio_high=ratio.ratio_high, reliable=True)


def no_faster(latency: Latency, source: Latency) -> bool:
    """Whether a variant is surely no faster than the float file it was made from: where the machine was disturbed, when
    it is slower by more than that accounts for.
    """
    sound = latency.reliable and source.reliable
    return latency.ratio_low > (FASTER if sound else DISTURBED) * source.ratio

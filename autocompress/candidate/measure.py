"""Latency of a model, paired with the reference: alternating blocks, so that what disturbs one disturbs both.

The statistics are pure (arrays in, numbers out); ``measure`` alone touches the clock.
"""

import gc
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from autocompress.candidate.evaluate import Latency
from autocompress.candidate.processor import pinned_to_fastest
from autocompress.plugin.contract import Feed, Runtime, Session
from autocompress.profile import HardwareProfile

Floats = npt.NDArray[np.float64]
BLOCK_S = 0.006  # a block lasts about as long as this, and holds at least three calls
RESAMPLES = 400
NOISY_TAIL = 1.3  # the reference's p90 / p50 above which a neighbour is at work
DRIFT = 1.15  # ratio of the reference's medians in the two halves
SLOWED = 1.15  # the reference's median over its fastest of late
REMEMBERED = 30  # measurements, in which a machine that has become slower for good is known as that
PROBE_CALLS = 9
PROBING = 0.3  # of a measurement's time at most, for finding the least disturbed processor
ATTEMPTS = 4  # at most, on a machine that is disturbed; of a slow model fewer
AGREEING = 3  # disturbed measurements of one graph, and most of them, that count together when their ratios
AGREEMENT = 1.1  # differ by no more than this, the largest over the smallest
FEWEST_BLOCKS = 4  # a slow model is measured by few calls rather than for long


@dataclass(frozen=True)
class Effort:
    """How long to measure: about ``seconds`` at most, ``blocks`` pairs at least if time allows, until the ratio's
    interval is within ``width``; while the machine is disturbed, again up to ``attempts`` times in all.
    """

    seconds: float = 0.7
    blocks: int = 16
    width: float = 0.03
    pause_s: float = 0.2  # before measuring again, for a neighbour to finish
    attempts: int = ATTEMPTS


QUICK = Effort(seconds=0.5, blocks=8, width=0.05, pause_s=0.1)
FULL = Effort()
FINAL = Effort(seconds=4.0, blocks=40, width=0.008, pause_s=0.5)


class Pace:
    """How fast a model was in its last measurements: on a shared machine the fastest one was the undisturbed one."""

    def __init__(self) -> None:
        self._medians: deque[float] = deque(maxlen=REMEMBERED)

    def slowed(self, median: float) -> bool:
        """Whether the model, known to run faster, was slowed down. Remembers this median."""
        self._medians.append(median)
        return median > SLOWED * min(self._medians)


@dataclass(frozen=True)
class Timer:
    """One model ready to be timed: a call returns milliseconds. here: it computes in this thread."""

    call: Callable[[], float]
    here: bool = False
    pace: Pace = field(default_factory=Pace)

    def block(self, calls: int) -> Floats:
        return np.array([self.call() for _ in range(calls)])


def timer(runtime: Runtime, session: Session, feeds: Sequence[Feed]) -> Timer:
    """A timer over ``feeds`` in turn, on the runtime's own clock when it has one."""
    turn = 0

    def call() -> float:
        nonlocal turn
        feed = feeds[turn % len(feeds)]
        turn += 1
        own = runtime.clock(session, feed)
        if own is not None:
            return own
        start = time.perf_counter()
        session.run(feed)
        return (time.perf_counter() - start) * 1e3

    return Timer(call, here=type(runtime).clock is Runtime.clock)


def measure(
    candidate: Timer,
    reference: Timer,
    profile: HardwareProfile,
    *,
    effort: Effort = FULL,
    stop: Callable[[Latency], bool] | None = None,
    anyway: Callable[[Latency], bool] | None = None,
    seed: int = 0,
) -> Latency:
    """Latency of ``candidate`` beside ``reference``, measured again while the machine is disturbed, as often and as
    long as the effort allows; of the disturbed ones, the one in which the reference was fastest.

    stop: ends the measurement early once it answers True (a gate whose interval excludes the budget). anyway: whether a
    disturbed measurement says all there is to know; it is not repeated.
    """
    disturbed: list[tuple[float, Latency]] = []
    latest = time.monotonic() + effort.attempts * effort.seconds
    for attempt in range(effort.attempts):
        if attempt and time.monotonic() >= latest:
            break
        if attempt:
            time.sleep(effort.pause_s * attempt)
        with pinned_to_fastest(lambda: _probe(reference), _tries(reference, profile, effort)):
            latency, beside = _once(candidate, reference, profile, effort, stop, seed)
        middle = float(np.median(np.concatenate(beside)))
        slowed = reference.pace.slowed(middle)
        if is_quiet(beside) and not slowed:
            return latency
        disturbed.append((middle, replace(latency, reliable=False)))
        if anyway is not None and anyway(disturbed[-1][1]):
            break
    return min(disturbed, key=lambda pair: pair[0])[1]


def _probe(model: Timer) -> float:
    """Milliseconds of a few calls, in the middle."""
    return float(np.median(model.block(PROBE_CALLS)))


def _tries(reference: Timer, profile: HardwareProfile, effort: Effort) -> int:
    """On how many processors the reference can be tried: a measurement of one thread, and of quick calls."""
    if not reference.here or profile.threads > 1:
        return 0
    return int(PROBING * effort.seconds * 1e3 / (PROBE_CALLS * max(reference.call(), 1e-3)))


def _once(
    candidate: Timer,
    reference: Timer,
    profile: HardwareProfile,
    effort: Effort,
    stop: Callable[[Latency], bool] | None,
    seed: int,
) -> tuple[Latency, list[Floats]]:
    """One measurement, and the times of the reference beside it."""
    calls = [_warm_up(candidate), _warm_up(reference)]
    ours: list[Floats] = []
    theirs: list[Floats] = []
    enabled = gc.isenabled()
    gc.disable()
    try:
        deadline = time.monotonic() + effort.seconds
        while True:
            pair = [(candidate, ours, calls[0]), (reference, theirs, calls[1])]
            for model, blocks, count in pair if len(ours) % 2 else pair[::-1]:
                blocks.append(model.block(count))
            late = time.monotonic() >= deadline and len(ours) >= FEWEST_BLOCKS
            if not late and (len(ours) < effort.blocks or len(ours) % 4):
                continue
            latency = summarise(ours, theirs, profile.percentile, seed)
            narrow = latency.ratio_high - latency.ratio_low <= effort.width * latency.ratio
            if narrow or late or (stop is not None and stop(latency)):
                return latency, theirs
    finally:
        if enabled:
            gc.enable()


def _warm_up(model: Timer) -> int:
    """Run until the caches are warm; how many calls make a block."""
    model.block(3)
    each = float(np.median(model.block(5)))
    return int(np.clip(BLOCK_S * 1e3 / max(each, 1e-4), 3, 200))


def summarise(ours: Sequence[Floats], theirs: Sequence[Floats], percentile: float, seed: int = 0) -> Latency:
    """Paired statistics of equally many blocks of call times in ms.

    The ratio is the median over pairs of (median of our block / median of theirs); intervals are 95 % bootstrap over
    blocks.
    """
    ratios = np.array([np.median(a) / np.median(b) for a, b in zip(ours, theirs, strict=True)])
    draws = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
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
    near = [[m for m in ordered if 1 <= m.ratio / least.ratio <= AGREEMENT] for least in ordered]
    agreeing = max(near, key=len, default=[])
    if len(agreeing) < max(AGREEING, len(ordered) // 2 + 1):
        return None
    slow, ratio = max(agreeing, key=lambda latency: latency.statistic), agreeing[-1]
    return replace(slow, ratio=ratio.ratio, ratio_low=ratio.ratio_low, ratio_high=ratio.ratio_high, reliable=True)

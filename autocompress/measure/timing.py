"""Latency of a model, paired with the reference: alternating blocks, so that what disturbs one disturbs both.

The statistics are pure (arrays in, numbers out) and stand elsewhere.
"""

import gc
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle

import numpy as np

from autocompress.arrays import Floats
from autocompress.data import Feed
from autocompress.latency import Latency
from autocompress.measure.effort import FULL, Effort
from autocompress.measure.processor import pinned_to_fastest
from autocompress.measure.statistics import is_quiet, summarise
from autocompress.plugin.contract import Runtime, Session
from autocompress.profile import HardwareProfile

BLOCK_S = 0.006  # a block lasts about as long as this, and holds at least three calls


SLOWED_BY = 1.15  # the reference's median over its fastest of late


REMEMBERED = 30  # measurements, in which a machine that has become slower for good is known as that


PROBE_CALLS = 9


PROBING = 0.3  # of a measurement's time at most, for finding the least disturbed processor


FEWEST_BLOCKS = 4  # a slow model is measured by few calls rather than for long


class RecentMedians:
    """How fast a model was in its last measurements: on a shared machine the fastest one was the undisturbed one."""

    def __init__(self) -> None:
        self._medians: deque[float] = deque(maxlen=REMEMBERED)

    def slowed(self, median: float) -> bool:
        """Whether the model, known to run faster, was slowed down. Remembers this median."""
        self._medians.append(median)
        return median > SLOWED_BY * min(self._medians)


@dataclass(frozen=True)
class Timer:
    """One model ready to be timed: a call returns milliseconds. here: it computes in this thread."""

    call: Callable[[], float]
    here: bool = False
    recent: RecentMedians = field(default_factory=RecentMedians)

    def block(self, calls: int) -> Floats:
        return np.array([self.call() for _ in range(calls)])


def timer(runtime: Runtime, session: Session, feeds: Sequence[Feed]) -> Timer:
    """A timer over ``feeds`` in turn, on the runtime's own clock when it has one."""
    turns = cycle([(feed, session.bound(feed)) for feed in feeds])

    def call() -> float:
        feed, run = next(turns)
        own = runtime.clock(session, feed)
        if own is not None:
            return own
        start = time.perf_counter()
        run()
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
        slowed = reference.recent.slowed(middle)
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

"""The block loop: two models timed in short alternating blocks of calls.

Numpy and the standard library alone. Alternating pairs what is compared in time, as in duet benchmarking (Bulej et al.,
"Duet Benchmarking: Improving Measurement Accuracy in the Cloud", ICPE 2020, arXiv 2001.05811).
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .processors import Move, stay
from .streams import Streams
from .waiting import Waited, never_waited, without_waits

Milliseconds = npt.NDArray[np.float64]
Call = Callable[[], float]  # runs the model once; milliseconds that it took
Now = Callable[[], float]  # seconds

BLOCK_MS = 4.0  # about as long as a block lasts: shorter than most states of a shared processor (15 to 100 ms)
IN_VAIN = 4  # blocks in a row that were not quiet, after which a session goes on elsewhere
MOST_CALLS = 400  # in a block
SLOW_MS = 200.0  # a call, above which one is enough to warm up
HURRIED, HURRIED_S = 4, 0.1  # blocks at least of a session that is to take less than so many seconds
HURRIED_MS = 2.5  # about as long as a block of it lasts
WHERE_BUSY = 2  # times as long, where fewer than half of its blocks were quiet by then
STABLE, STABLE_S, SPELL_S = 0.03, 3.0, 0.2  # apart, two spells of what has warmed up; seconds for it, and of a spell
WARM_UP = 1, 3  # calls of each that do not count, and those that say how many make a block


@dataclass(frozen=True, eq=False)
class Blocks:
    """What a session recorded, in its order: a block of calls of the reference, one of the candidate, and so on, the
    reference first and last.

    candidate: milliseconds of every call, an array a block. reference: the median milliseconds of each of its blocks,
    one more than the candidate's.
    """

    candidate: tuple[Milliseconds, ...]
    reference: Milliseconds

    def __post_init__(self) -> None:
        if len(self.reference) != len(self.candidate) + 1 or not self.candidate:
            raise ValueError("a session is blocks of the candidate, each between two of the reference")


@dataclass(frozen=True)
class BlockLimits:
    """When a session ends: with ``quiet`` quiet blocks, or after ``seconds`` if it has ``fewest`` blocks by then.
    longer: times as long, as long as fewer than half of its blocks were quiet. block_ms: what a block lasts, about.
    """

    quiet: int = 20
    seconds: float = 1.5
    fewest: int = 10
    longer: float = 1.0
    block_ms: float = BLOCK_MS

    @classmethod
    def within(cls, seconds: float) -> "BlockLimits":
        """Of a session that may take so many seconds; one that has hardly any ends with fewer and shorter blocks, or
        goes on for quiet ones.
        """
        if seconds >= HURRIED_S:
            return cls(seconds=seconds)
        return cls(cls.quiet, seconds, HURRIED, WHERE_BUSY, HURRIED_MS)


USUAL = BlockLimits()


class TooCoarse(Exception):
    """The clock of a runtime, for a file that it times."""


def record_blocks(
    candidate: Call,
    reference: Call,
    quiet_blocks: Callable[[Milliseconds], int],
    limits: BlockLimits,
    clock: Now = time.monotonic,
    move: Move = stay,
    waited: Waited = never_waited,
) -> Blocks:
    """One session. quiet_blocks: of the reference's medians so far, how many blocks between two of them were quiet.
    move: called when several blocks in a row were not, to go on elsewhere. waited: by this thread for a processor
    since it began; no part of what calls take.

    The garbage collector rests meanwhile.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        counts = [_calls_a_block(model, limits.block_ms) for model in (candidate, reference)]
        ours: list[Milliseconds] = []
        theirs = [float(np.median(_block(reference, counts[1], waited)))]
        began, known, in_vain = clock(), 0, 0
        while True:
            ours.append(_block(candidate, counts[0], waited))
            theirs.append(float(np.median(_block(reference, counts[1], waited))))
            found = quiet_blocks(np.array(theirs))
            seconds = limits.seconds * (limits.longer if 2 * found < len(ours) else 1.0)
            if found >= limits.quiet or (clock() - began >= seconds and len(ours) >= limits.fewest):
                return Blocks(tuple(ours), np.array(theirs))
            in_vain = 0 if found > known else in_vain + 1
            known = found
            if in_vain == IN_VAIN:
                move()
                in_vain = 0
    finally:
        if enabled:
            gc.enable()


def warm_up(model: Call, clock: Now = time.monotonic) -> None:
    """Call a model until it gets no faster, for some seconds at most: a GPU raises its clock with work, and chooses
    kernels in its first calls.
    """
    ends, last = clock() + STABLE_S, float("inf")
    while clock() < ends:
        until, times = clock() + SPELL_S, [model()]
        while clock() < until:
            times.append(model())
        now = float(np.median(times))
        if now >= (1 - STABLE) * last:
            return
        last = now


def _block(model: Call, calls: int, waited: Waited = never_waited) -> Milliseconds:
    had_waited = waited()
    times = model.block(calls) if isinstance(model, Streams) else np.array([model() for _ in range(calls)])
    if not (times > 0).all():
        raise TooCoarse("a call took no time by the runtime's clock: it is too coarse to time this file")
    return without_waits(times, had_waited, waited())


def _calls_a_block(model: Call, block_ms: float) -> int:
    if model() > SLOW_MS:
        return 1
    _block(model, WARM_UP[0])
    took, beside = [], []
    for _ in range(WARM_UP[1]):
        began = time.perf_counter()
        took.append(model())
        beside.append((time.perf_counter() - began) * 1e3 - took[-1])
    each = float(np.median(took)) + max(0.0, min(beside))  # with what comes between calls at the least
    return int(np.clip(round(block_ms / max(each, 1e-4)), 1, MOST_CALLS))

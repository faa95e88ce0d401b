"""A file beside a reference on a target: what a session recorded, what it says, and what several say together."""

from dataclasses import dataclass
from typing import Literal

from autocompress.arrays import Floats

FEWEST_QUIET = 8  # blocks of a session, or half of fewer, below which it says nothing about a quiet machine


@dataclass(frozen=True, eq=False)
class Blocks:
    """What a session recorded, in its order: a block of calls of the reference, one of the candidate, and so on, the
    reference first and last.

    candidate: milliseconds of every call, an array a block. reference: the median milliseconds of each of its blocks,
    one more than the candidate's.
    """

    candidate: tuple[Floats, ...]
    reference: Floats

    def __post_init__(self) -> None:
        if len(self.reference) != len(self.candidate) + 1 or not self.candidate:
            raise ValueError("a session is blocks of the candidate, each between two of the reference")


@dataclass(frozen=True)
class Conditions:
    """What the machine did during a session. load: processes that want to run, averaged over a minute. stolen: share of
    time that the host gave to other machines. switches: how often a second others took this process's core. throttled:
    share of time that a limit of processor time stopped it.
    """

    load: float = 0.0
    stolen: float = 0.0
    switches: float = 0.0
    throttled: float = 0.0


def is_busy(quiet: int, blocks: int) -> bool:
    """Whether too few of a session's blocks were quiet. One of a slow model has few blocks in all."""
    return quiet < min(FEWEST_QUIET, blocks / 2)


@dataclass(frozen=True)
class TimingSession:
    """What one session says, both files opened anew.

    log_ratio: natural logarithm of the candidate's time over the reference's, the median over its quiet blocks, or over
    all when it is busy. log_ratio_of_all: over all blocks. statistic: milliseconds of the profile's percentile, p50 and
    p90: of the same blocks' calls. reference: milliseconds of a call of the reference beside these blocks. quiet,
    blocks: how many blocks were quiet, of how many. slowed: the reference beside them over its fastest of late.
    """

    log_ratio: float
    log_ratio_of_all: float
    statistic: float
    p50: float
    p90: float
    reference: float
    quiet: int
    blocks: int
    slowed: float = 1.0
    conditions: Conditions = Conditions()

    @property
    def busy(self) -> bool:
        """Whether too few blocks were quiet; it speaks of a busy machine then."""
        return is_busy(self.quiet, self.blocks)


@dataclass(frozen=True)
class RatioEstimate:
    """A file's time over the reference's, from several sessions; below 1 the file is faster.

    low, high: interval of the ratio. next_low, next_high: where the next session will lie. Both with the
    confidence that was asked for. ratio_of_all: over all blocks, what a busy machine makes of it. busy: how many of the
    sessions were.
    """

    ratio: float
    low: float
    high: float
    next_low: float
    next_high: float
    ratio_of_all: float
    sessions: int
    busy: int


Relation = Literal["faster", "slower", "same", "undecided"]


@dataclass(frozen=True)
class Comparison:
    """Sessions of two files, what they say together, and how the candidate's time stands to the reference's."""

    sessions: tuple[TimingSession, ...]
    estimate: RatioEstimate
    relation: Relation

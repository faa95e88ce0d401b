"""A file beside a reference on a target: what a session recorded, what it says, and what several say together."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from autocompress.machine.conditions import Conditions

FEWEST_QUIET = 3  # blocks of a session, or half of fewer, below which it says nothing about a quiet machine


def together(conditions: Sequence[Conditions], by: Callable[[Iterable[float]], float]) -> Conditions:
    """Of several, each condition ``by`` itself, such as the worst (max) or the middle (median); of none what a machine
    left alone has.
    """
    found = [asdict(one) for one in conditions] or [asdict(Conditions())]
    return Conditions(**{name: by([one[name] for one in found]) for name in found[0]})


def is_busy(quiet: int, blocks: int) -> bool:
    """Whether too few of a session's blocks were quiet. One of a slow model has few blocks in all."""
    return quiet < min(FEWEST_QUIET, blocks / 2)


@dataclass(frozen=True)
class TimingSession:
    """What one session says, both files opened anew.

    log_ratio: natural logarithm of the candidate's time over the reference's, the median over its quiet blocks, or
    over the quietest when it is busy. p50: milliseconds of a call in the same blocks. statistic, p90: of the
    profile's percentile and that one, in quiet blocks, or in all when it is busy. log_ratio_of_all,
    statistic_of_all: over all blocks. reference: milliseconds of a call of the reference beside the blocks that
    count. quiet, blocks: how many blocks were quiet, of how many. slowed: the reference beside them over its
    fastest of late; 0 where every moment counts. at_s: when it ended, in seconds since the epoch; seconds: that it
    took, without waiting for those that compute. raw: store key of the blocks that all this was worked out from.
    file: digest of the candidate's content. device: the address of the one that it ran on, where it is elsewhere,
    or the profile's name where a command reaches it.
    """

    log_ratio: float
    log_ratio_of_all: float
    statistic: float
    statistic_of_all: float
    p50: float
    p90: float
    reference: float
    quiet: int = field(compare=False)
    blocks: int
    slowed: float = 1.0
    at_s: float = 0.0
    seconds: float = 0.0
    raw: str = ""
    file: str = ""
    conditions: Conditions = Conditions()
    device: str = ""

    @property
    def fastest(self) -> float:
        """Milliseconds of the reference when nobody disturbed it; infinite where every moment counts as such."""
        return self.reference / self.slowed if self.slowed else math.inf

    @property
    def busy(self) -> bool:
        """Whether too few blocks were quiet; it speaks of a busy machine then."""
        return is_busy(self.quiet, self.blocks)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TimingSession":
        """Of what ``asdict`` gives."""
        conditions = Conditions(**value["conditions"])
        return cls(**{"statistic_of_all": value["statistic"], **value, "conditions": conditions})


TimingSessions = tuple[TimingSession, ...]
Relation = Literal["faster", "slower", "same", "undecided"]

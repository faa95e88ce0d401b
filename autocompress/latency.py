"""How long one call of a file takes, beside the reference: what its timing sessions say together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autocompress.comparison import TimingSession, TimingSessions


@dataclass(frozen=True)
class Latency:
    """Of one graph, from its quiet sessions, or from all where none was quiet. Below 1 a ratio is faster.

    ratio: its time over the reference's. ratio_low, ratio_high: 95 % interval of that; ratio_next_low, ratio_next_high:
    where the ratio of one more session will lie. statistic: milliseconds of the profile's percentile; low, high,
    next_low, next_high: the same of it. p50: milliseconds of a call, the ratio times the reference's. p90: of a slow
    call. ratio_of_all: over all blocks, what a machine as busy as this one makes of it between its waits
    for a processor.
    """

    p50: float
    p90: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ratio_next_low: float
    ratio_next_high: float
    ratio_of_all: float
    statistic: float
    low: float
    high: float
    next_low: float
    next_high: float
    sessions: TimingSessions

    @property
    def quiet_sessions(self) -> int:
        return sum(not session.busy for session in self.sessions)

    @property
    def quiet(self) -> bool:
        """Whether it is of a quiet machine; else of a busy one, where small files suffer more than the reference."""
        return self.quiet_sessions > 0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Latency":
        """Of what ``asdict`` gives."""
        return cls(**{**value, "sessions": tuple(map(TimingSession.from_json, value["sessions"]))})


def beside_itself(latency: Latency) -> Latency:
    """Against itself a graph's ratio is one by definition."""
    return replace(
        latency,
        ratio=1.0,
        ratio_low=1.0,
        ratio_high=1.0,
        ratio_next_low=1.0,
        ratio_next_high=1.0,
        ratio_of_all=1.0,
    )

"""What the user allows: a latency, absolute or relative to the reference, and a loss of score."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autocompress.errors import UsageError, one_line
from autocompress.group_losses import GroupLosses
from autocompress.score_scale import ScoreScale
from autocompress.verdict import FAR_OVER, Verdict, at_least, at_most, ms_verdict, ratio_verdict

if TYPE_CHECKING:
    from autocompress.latency import Latency

DEFAULT_DROP = 1.0
SMALL_DROP = 0.1  # points, below which a share of one may have been meant


@dataclass(frozen=True)
class Budget:
    """latency_ms bounds the profile's statistic; speedup bounds the ratio to the reference at 1/speedup; neither:
    no budget.

    max_drop: points of score (hundredths of the metric's unit) that may be lost against the reference, or None.
    max_class_drop: points that may be lost in any one class or group of examples, or None. max_size_bytes: of the
    file, max_memory_bytes: that it takes, as the target's profile says, or None. Raises UsageError.
    """

    latency_ms: float | None = None
    speedup: float | None = None
    max_drop: float | None = None
    max_size_bytes: int | None = None
    max_memory_bytes: int | None = None
    max_class_drop: float | None = None

    def __post_init__(self) -> None:
        if self.latency_ms is not None and self.speedup is not None:
            raise UsageError("--budget-ms and --speedup exclude each other: give one of them")
        _check("--budget-ms", self.latency_ms, positive=True)
        _check("--speedup", self.speedup, positive=True)
        _check("--max-drop", self.max_drop, positive=False)
        _check("--max-class-drop", self.max_class_drop, positive=False)

    @property
    def bounded(self) -> bool:
        return self.latency_ms is not None or self.speedup is not None

    def excess(self, latency: "Latency") -> float:
        """How far over the budget, as a share of it; at most 0 is within. 0 when there is no budget."""
        if self.speedup is not None:
            return latency.ratio * self.speedup - 1
        return latency.statistic / self.latency_ms - 1 if self.latency_ms is not None else 0.0

    def verdict(self, latency: "Latency") -> Verdict | None:
        """Whether a file's latency keeps the budget; None when there is none. Where it is too close to tell, the reason
        names the nearest budget that is known to be kept.
        """
        if self.speedup is not None:
            known = at_most(1 / latency.ratio_next_high)
            return ratio_verdict(latency, 1 / self.speedup, f"--speedup {known} is known to be kept")
        if self.latency_ms is not None:
            known = at_least(latency.next_high)
            return ms_verdict(latency, self.latency_ms, f"--budget-ms {known} is known to be kept")
        return None

    def size_verdict(self, size_bytes: int) -> Verdict | None:
        """Whether a file is small enough; None where any size is."""
        return _within(size_bytes, self.max_size_bytes, "bytes")

    def memory_verdict(self, memory_bytes: int | None) -> Verdict | None:
        """Whether a file takes little enough memory; None where any amount is. memory_bytes: None where it was not
        measured.
        """
        if memory_bytes is None and self.max_memory_bytes is not None:
            return Verdict("undecided", "how much memory it takes was not measured")
        return _within(memory_bytes or 0, self.max_memory_bytes, "bytes of memory")

    def class_verdict(self, losses: GroupLosses | None, scale: ScoreScale) -> Verdict | None:
        """Whether every class loses little enough; None where any loss is allowed. losses: None where they were not
        compared.
        """
        if self.max_class_drop is None:
            return None
        if losses is None:
            return Verdict("undecided", "it was not compared class by class")
        return losses.verdict(self.max_class_drop, scale)

    def less(self, margin: float) -> "Budget":
        """The same budget of latency, tighter by ``margin``, a share of it."""
        return replace(
            self,
            latency_ms=self.latency_ms and self.latency_ms * (1 - margin),
            speedup=self.speedup and self.speedup / (1 - margin),
        )

    def excluded(self, latency: "Latency") -> bool:
        """Whether even the low end of the interval is over the budget."""
        if self.speedup is not None:
            return latency.ratio_low * self.speedup > 1
        return self.latency_ms is not None and latency.low > self.latency_ms

    def ruled_out(self, latency: "Latency") -> bool:
        """Whether a structure is not worth training for its latency. On a busy machine the ratio alone says something,
        because what disturbs the candidate disturbs the reference beside it, and only far above the budget.
        """
        if latency.quiet:
            return self.excluded(latency)
        return self.speedup is not None and latency.ratio_low * self.speedup > FAR_OVER

    def surely_within(self, latency: "Latency") -> bool:
        """Whether a structure's latency is within it; on a busy machine, when the high end of its interval is still
        1.5 times within.
        """
        if latency.quiet:
            return self.excess(latency) <= 0
        if self.speedup is not None:
            return latency.ratio_high * self.speedup * FAR_OVER <= 1
        return self.latency_ms is None or latency.high * FAR_OVER <= self.latency_ms

    @property
    def allowed_drop(self) -> float | None:
        """Points that may be lost: as many as was said, one where nothing bounds the latency; None for any."""
        return self.max_drop if self.max_drop is not None or self.bounded else DEFAULT_DROP

    def small_drop(self, metric: str) -> str | None:
        """What so small a drop means, for who thinks in the metric's unit; None where it is not small."""
        if self.max_drop is None or not 0 < self.max_drop < SMALL_DROP:
            return None
        return (
            f"--max-drop counts in points, hundredths of the metric's unit: {self.max_drop:g} is {self.max_drop:g} of "
            f"a point of {metric}, {self.max_drop / 100:g} in its own unit; for one point give --max-drop 1"
        )

    def allows_score(self, score: float, reference: float) -> bool:
        return self.allowed_drop is None or score >= reference - self.allowed_drop / 100 - 1e-9

    def ratio(self, reference_statistic_ms: float) -> float | None:
        """The budget as a share of the reference's latency."""
        if self.speedup is not None:
            return 1 / self.speedup
        return self.latency_ms / reference_statistic_ms if self.latency_ms is not None else None

    def __str__(self) -> str:
        if self.speedup is not None:
            return f"{self.speedup:g}x faster than the reference"
        return f"{self.latency_ms:g} ms" if self.latency_ms is not None else "no budget"


def _within(amount: int, limit: int | None, unit: str) -> Verdict | None:
    if limit is None:
        return None
    return Verdict("met" if amount <= limit else "not met", f"{amount:,} {unit}, and {limit:,} are the target's limit")


def _check(option: str, value: object, *, positive: bool) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not (value > 0 if positive else value >= 0):  # type: ignore[operator]
        raise UsageError(
            f"{option} must be a number {'above' if positive else 'of at least'} 0, not {one_line(value, 40)}"
        )

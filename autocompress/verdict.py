"""Whether a limit is kept: met, not met, or undecided, with the reason. A value of its own, never a missing number."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING, Literal

from autocompress.score_scale import IN_PERCENT, ScoreScale

if TYPE_CHECKING:
    from autocompress.latency import Latency

Answer = Literal["met", "not met", "undecided"]

FEWEST_QUIET_SESSIONS = 2  # that refute a limit
FAR_OVER = 1.5  # times a ratio: a busy machine was seen to make one 1.4 times as large
ONE_SIDED = 1.645  # standard errors of a normal distribution, 95 % below
CLOSE = "too close to tell"
FEW = "one quiet session is too few to say so; it takes two"
BUSY = "too few moments were quiet; measure again when less runs beside"


@dataclass(frozen=True)
class Verdict:
    """reason: one line for a user, with the numbers that it follows from."""

    answer: Answer
    reason: str

    @property
    def decided(self) -> bool:
        return self.answer != "undecided"

    @property
    def met(self) -> bool:
        return self.answer == "met"


def ratio_verdict(latency: "Latency", limit: float, helps: str = "") -> Verdict:
    """Whether a file's time over the reference's stays within ``limit``. A neighbour makes it more as a rule, since a
    smaller file suffers more than the reference, so that what is within the limit on a busy machine is within it.

    helps: said where it is too close to tell.
    """
    shown = "{:.3g} of the reference's time".format
    return _verdict(latency, latency.ratio_low, latency.ratio_next_high, limit, shown, FAR_OVER, helps)


def ms_verdict(latency: "Latency", limit: float, helps: str = "") -> Verdict:
    """Whether the profile's percentile stays within ``limit`` milliseconds. In a busy session every call counts: a
    neighbour only adds time, so that what is within the limit there is within it.

    helps: said where it is too close to tell.
    """
    return _verdict(latency, latency.low, latency.next_high, limit, "{:.4g} ms".format, math.inf, helps)


def at_least(value: float) -> str:
    """A positive number of three digits, as a user types it, that is not below ``value``."""
    return _three_digits(value, ROUND_CEILING)


def at_most(value: float) -> str:
    """The same, not above it."""
    return _three_digits(value, ROUND_FLOOR)


def too_small_a_split(error: float, allowed: float) -> bool:
    """Whether examples that leave a loss such a standard error cannot tell half of what may be lost from nothing."""
    return ONE_SIDED * error > allowed / 2


def drop_verdict(loss: float, error: float, allowed: float, examples: int, scale: ScoreScale = IN_PERCENT) -> Verdict:
    """Whether a file loses at most ``allowed`` points. loss: points of score below the reference's on the same
    ``examples``. error: its standard error, which falls with the root of their number. One-sided, 95 %.
    """
    change = f"{'loses' if loss >= 0 else 'gains'} {scale.points(abs(loss), '.2f')}"
    low, high = loss - ONE_SIDED * error, loss + ONE_SIDED * error
    if high <= allowed:
        return Verdict("met", f"it {change}, and {surely_at_most(high)}; {allowed:g} may be lost")
    if low > allowed:
        return Verdict("not met", f"it {change}, surely at least {low:.2f}; {allowed:g} may be lost")
    found = f"it {change}, and may lose {high:.2f}, where {allowed:g} may be lost"
    more = ""
    if allowed and too_small_a_split(error, allowed):
        more = f", {math.ceil(examples * (2 * ONE_SIDED * error / allowed) ** 2):,} would do"
    helps = f"--max-drop {at_least(high)} is known to be kept"
    return Verdict("undecided", f"{found}: {CLOSE} with {examples:,} validation examples{more}; {helps}")


def surely_at_most(lost: float) -> str:
    """Said of the upper end of a loss in points, one-sided, 95 %."""
    return f"surely loses at most {lost:.2f}" if lost > 0 else "surely loses nothing"


def _verdict(
    latency: "Latency",
    low: float,
    next_high: float,
    limit: float,
    shown: Callable[[float], str],
    far: float,
    helps: str,
) -> Verdict:
    """A limit is met when one more session will find it kept, not met when what the sessions estimate is over it. A
    busy machine refutes nothing but what is far over. far: times the limit.
    """
    sure = latency.quiet_sessions >= FEWEST_QUIET_SESSIONS
    if next_high <= limit:
        return Verdict("met", f"at most {shown(next_high)} in the next session, {shown(limit)} is the limit")
    if low > (limit if sure else far * limit):
        return Verdict("not met", f"at least {shown(low)}, {shown(limit)} is the limit")
    close = f"{CLOSE}; {helps}" if helps else CLOSE
    why = BUSY if not latency.quiet else close if low <= limit else FEW
    return Verdict("undecided", f"between {shown(low)} and {shown(next_high)}, {shown(limit)} is the limit: {why}")


def _three_digits(value: float, rounding: str) -> str:
    return f"{Context(prec=3, rounding=rounding).create_decimal_from_float(value).normalize():f}"

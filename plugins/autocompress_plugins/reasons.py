"""How a refusal names the layers that are in the way."""

from collections.abc import Mapping

NAMED = 3  # ``inspect`` shows them all


def because(what: str, reasons: Mapping[str, str]) -> str:
    """``what``, and behind it the first few of the layers that are left with why, where there are any."""
    named = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:NAMED])
    return f"{what} ({named})" if named else what

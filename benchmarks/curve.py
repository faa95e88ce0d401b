"""The area under a front as it grows over the time of a search."""

from collections.abc import Sequence
from typing import Any

from autocompress.explore.standings.front import hypervolume

Seen = tuple[float, float, float]  # seconds since the search began, score, latency ratio
Curve = list[tuple[float, float]]  # seconds, area from then on


def curve_of(seen: Sequence[Seen], reference: float) -> Curve:
    """The area after each file: (log2 speed-up up to 16x) x (score above the reference's - 0.05), 1 at most."""
    found: Curve = []
    for at in sorted({seconds for seconds, _, _ in seen}):
        known = [(score, ratio) for seconds, score, ratio in seen if seconds <= at]
        found.append((at, hypervolume(known, reference)))
    return found


def seen_in(front: dict[str, Any]) -> list[Seen]:
    """The files of a ``front.json``."""
    return [(c["elapsed_s"], c["score"]["val"], c["latency_ms"]["ratio"]) for c in front["candidates"]]


def area_at(curve: Curve, seconds: float) -> float:
    return max((area for at, area in curve if at <= seconds), default=0.0)


def time_to(curve: Curve, area: float) -> float | None:
    """Seconds until an area was reached; None when it never was."""
    return next((at for at, reached in curve if reached >= area), None)

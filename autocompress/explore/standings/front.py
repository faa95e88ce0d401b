"""The Pareto front and the choice of one point on it. Pure: numbers in, numbers out; no input or output, no clock."""

import math
from bisect import bisect_right
from collections.abc import Sequence

Point = tuple[float, float]  # (score, higher is better; latency ratio, lower is better)

SPEEDUP_SPAN = 4.0  # log2 speed-up over which hypervolume counts: up to 16x
SCORE_SPAN = 0.05  # below the reference's score by this much, a point is worth nothing
WITHIN = 0.001  # a faster model may cost at most a tenth of a point


def dominates(one: Point, other: Point) -> bool:
    """Whether ``one`` is at least as good in both and better in one. NaN dominates nothing and is dominated by
    nothing.
    """
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def pareto(points: Sequence[Point]) -> list[int]:
    """Indices of the points nothing dominates, the fastest first; of equal points the first one; NaN never."""
    best, front = -math.inf, []
    order = sorted(
        (i for i, p in enumerate(points) if not math.isnan(p[0] + p[1])), key=lambda i: (points[i][1], -points[i][0], i)
    )
    for i in order:
        if points[i][0] > best:
            best = points[i][0]
            front.append(i)
    return front


def ranks(points: Sequence[Point]) -> list[int]:
    """Non-dominated sorting (Deb et al. 2002): 0 for the front, 1 for the front of the rest, and so on; NaN is 0.

    In O(n log n), as for two objectives a point's rank is one above the last front that holds a point at least as good
    (Jensen 2003): of the points at least as fast, each front's best score is lower than the one's before.
    """
    rank = [0] * len(points)
    lost: list[float] = []  # minus the best score of each front so far, rising
    before: tuple[Point, int] | None = None
    known = [i for i, point in enumerate(points) if not math.isnan(point[0] + point[1])]
    for i in sorted(known, key=lambda i: (points[i][1], -points[i][0])):
        if before is not None and points[i] == before[0]:
            rank[i] = before[1]
            continue
        rank[i] = bisect_right(lost, -points[i][0])
        lost[rank[i] : rank[i] + 1] = [-points[i][0]]
        before = points[i], rank[i]
    return rank


def hypervolume(points: Sequence[Point], reference_score: float) -> float:
    """Area dominated in (log2 speed-up, 0..4) x (score above the reference's - 0.05), in units of the whole 4 x
    0.05; 1 is a model 16 times faster that loses nothing. The measure of Zitzler & Thiele (1999)."""
    floor = reference_score - SCORE_SPAN
    area, reached = 0.0, 0.0
    # From the most accurate to the fastest: each point adds the strip of speed it alone reaches.
    for score, ratio in sorted((p for p in points if p[0] > floor), key=lambda p: -p[0]):
        speed = min(SPEEDUP_SPAN, max(0.0, -math.log2(max(ratio, 1e-9))))
        if speed > reached:
            area += (speed - reached) * (score - floor)
            reached = speed
    return area / (SPEEDUP_SPAN * SCORE_SPAN)


def ratio_by_missing_area(points: Sequence[Point], reference_score: float, least: float, share: float) -> float:
    """A latency ratio, from 1 down to ``least``, with this share (0..1) of the missing area on its slower side.

    Missing is the area between the front and the reference's score: as much of the hypervolume as could still be
    gained. Without any, the ratio is ``least``.
    """
    end = -math.log2(least)
    steps: list[tuple[float, float]] = []  # up to this speed, so much score is missing
    best = reference_score - SCORE_SPAN
    reached = end
    for score, ratio in sorted((p for p in points if p[0] > best), key=lambda p: p[1]):
        speed = min(end, max(0.0, -math.log2(max(ratio, 1e-9))))
        if score > best:
            steps.append((reached, reference_score - best))
            best, reached = score, speed
    steps.append((reached, reference_score - best))
    strips = [(speed, max(0.0, missing)) for speed, missing in reversed(steps)]
    whole, at = 0.0, 0.0
    for speed, missing in strips:
        whole, at = whole + (speed - at) * missing, speed
    wanted, at = share * whole, 0.0
    for speed, missing in strips:
        if (speed - at) * missing >= wanted and missing:
            return float(2.0 ** -(at + wanted / missing))
        wanted, at = wanted - (speed - at) * missing, speed
    return least


def gains(points: Sequence[Point], rank: Sequence[int], reference_score: float) -> list[float]:
    """What each point, of these ``ranks``, adds to the hypervolume of the others: for all but the front nothing."""
    # Without a point of the front, what it alone dominates comes up, and that is in the second front.
    near = [i for i in range(len(points)) if rank[i] <= 1]
    whole = hypervolume([points[i] for i in near], reference_score)

    def without(lost: int) -> float:
        return hypervolume([points[i] for i in near if i != lost], reference_score)

    return [whole - without(i) if rank[i] == 0 else 0.0 for i in range(len(points))]


def best_first(points: Sequence[Point], reference_score: float) -> list[int]:
    """Indices by Pareto rank, then by hypervolume gain, then by score."""
    rank = ranks(points)
    gain = gains(points, rank, reference_score)
    return sorted(range(len(points)), key=lambda i: (rank[i], -gain[i], -points[i][0], points[i][1]))

"""Which file is recommended, and which one comes nearest where none can be. Pure."""

from collections.abc import Mapping, Sequence

from autocompress.explore.standings.front import WITHIN
from autocompress.explore.standings.judgement import Judgement, fastest_first, most_accurate_first

Differences = Mapping[str, tuple[float, float]]  # by id: the score of the most accurate minus its own, standard error


def among(files: Sequence[Judgement], final: Sequence[Judgement]) -> Sequence[Judgement]:
    """Which of all files one is chosen from: those that were timed often enough since the finalists were chosen, where
    a compressed one of them can be recommended; else all, by the sessions that there are. final: the former.
    """
    can = any(file.evaluation.recipe.changes and file.recommendable_but_for_classes for file in final)
    return final if can else files


def recommended(files: Sequence[Judgement], differences: Differences, *, bounded: bool) -> Judgement | None:
    """With a budget of latency: among the files that are known to keep it, the most accurate; one that is as good on
    the same examples, within one standard error and a tenth of a point, is preferred when it is faster, then when it
    is smaller. Without one: among the files that are known to lose no more than is allowed, the fastest; of those whose
    speed cannot be told from the fastest's, the most accurate. None when there is none.
    """
    can = [file for file in files if file.recommendable]
    if not can:
        return None
    if bounded:
        best = most_accurate_first(can)[0]
        return fastest_first([file for file in can if file is best or _as_good(file, differences)])[0]
    fastest = fastest_first(can)[0]
    return most_accurate_first([file for file in can if _as_fast(file, fastest)])[0]


def nearest(files: Sequence[Judgement]) -> Judgement:
    """What comes nearest where nothing can be recommended: of the files that may be within the budget of latency, and
    are by what is estimated where any is, the most accurate; where all are over it the one least over it, or of those
    whose speed cannot be told from that one's the most accurate. A model that lost its score is not near: it counts
    only when there is no other. One that was scored on a sample alone is not known well enough, and one that the target
    cannot run is none.
    """
    whole = [file for file in files if file.evaluation.score.whole]
    known = [file for file in whole if file.runs] or whole
    near = [file for file in known if file.keeps_lead] or known
    may_be = [file for file in near if file.latency is None or file.latency.answer != "not met"]
    within = [file for file in may_be if file.excess <= 0] or may_be
    if not within:
        closest = min(near, key=lambda file: file.excess)
        within = [file for file in near if _as_fast(file, closest)]
    return most_accurate_first(within)[0]


def _as_good(file: Judgement, differences: Differences) -> bool:
    lost, error = differences.get(file.evaluation.id, (float("inf"), 0.0))
    return lost <= error and lost <= WITHIN + 1e-9


def _as_fast(file: Judgement, other: Judgement) -> bool:
    return file is other or file.evaluation.latency.ratio_low <= other.evaluation.latency.ratio_high

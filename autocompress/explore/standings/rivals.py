"""Which files a report sets beside each other: the best that one technique alone reaches, and the best combination."""

from collections.abc import Collection, Iterable, Sequence

from autocompress.evaluation import Evaluation
from autocompress.explore.standings.judgement import Judgement


def rivals(
    judgements: Iterable[Judgement], front: Sequence[Evaluation], compressing: Collection[str]
) -> list[tuple[Evaluation, Evaluation]]:
    """(the best single technique, the best combination): of what can be recommended, and of what is as fast as each
    file of the front. compressing: the strategies that make a file smaller or faster. Pure.
    """
    wanted = frozenset(compressing)
    counted = [
        (len({step.strategy for step in j.evaluation.recipe.all_steps} & wanted), j)
        for j in judgements
        if j.evaluation.score.whole
    ]
    single, combined = [j for count, j in counted if count == 1], [j for count, j in counted if count > 1]
    found: dict[tuple[str, str], tuple[Evaluation, Evaluation]] = {}
    for slowest in (None, *(e.latency.ratio for e in front)):
        alone, together = _most_accurate(single, slowest), _most_accurate(combined, slowest)
        if alone is not None and together is not None:
            found[alone.id, together.id] = alone, together
    return list(found.values())


def _most_accurate(files: Sequence[Judgement], slowest: float | None) -> Evaluation | None:
    """Of what is as fast, as a ratio of latencies; of what can be recommended where that is None. Of equal ones the
    fastest.
    """
    fit = (
        j.evaluation for j in files if (j.recommendable if slowest is None else j.evaluation.latency.ratio <= slowest)
    )
    return max(fit, key=lambda e: (e.score.val, -e.latency.ratio), default=None)

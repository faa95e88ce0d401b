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
    whole = [j for j in judgements if j.evaluation.score.whole]
    as_fast = ([j.evaluation for j in whole if j.evaluation.latency.ratio <= e.latency.ratio] for e in front)
    found: dict[tuple[str, str], tuple[Evaluation, Evaluation]] = {}
    for files in ([j.evaluation for j in whole if j.recommendable], *as_fast):
        counted = [(len({step.strategy for step in e.recipe.all_steps} & {*compressing}), e) for e in files]
        alone = _most_accurate(e for count, e in counted if count == 1)
        together = _most_accurate(e for count, e in counted if count > 1)
        if alone is not None and together is not None:
            found[alone.id, together.id] = alone, together
    return list(found.values())


def _most_accurate(files: Iterable[Evaluation]) -> Evaluation | None:
    """Of equal ones the fastest."""
    return max(files, key=lambda e: (e.score.val, -e.latency.ratio), default=None)

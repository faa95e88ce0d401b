"""Files scored on as many validation examples as it takes to tell whether they would be on the front: a sample first,
the whole split for what would.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

from autocompress.candidate.request import ModelFile, NotScored, Sample, Scored
from autocompress.evaluation import Evaluation
from autocompress.latency import Latency

MOST_SAMPLED, FEWEST_SAMPLED = 1000, 200  # examples: 1,000 of which 2 % disagree tell a difference within half a point
SAMPLE_SHARE = 0.005  # of a search's time, that the reference would take for them
WORTH_SAMPLING = 2  # times the sample: a split of fewer examples is scored whole at once

TimedFile = tuple[ModelFile, Latency]
Stands = Callable[[float, float], bool]  # whether a file of this score and latency ratio would be on the front
ScoreFiles = Callable[[Sequence[TimedFile]], Awaitable[list[Scored | NotScored]]]  # of one family
ScoreThem = Callable[[Sequence[TimedFile], Sample | None, float], Awaitable[Sequence[Scored | NotScored]]]


def anything_stands(score: float, ratio: float) -> bool:
    """Where there is no front to compare with."""
    return True


def sample_of(reference: Evaluation, examples: int, batch: int, limit_s: float) -> Sample | None:
    """What the files of candidates are compared with the reference on. None where all examples cost hardly more.

    examples: of the validation split. batch: of one call of the reference. limit_s: seconds of the whole search.
    """
    affordable = SAMPLE_SHARE * limit_s / (reference.latency.p50 / 1e3) * batch
    sampled = int(min(MOST_SAMPLED, max(FEWEST_SAMPLED, affordable)))
    if examples < WORTH_SAMPLING * sampled:
        return None
    return Sample(sampled, reference.outputs, reference.score)


async def score_each(
    score: ScoreThem,
    sample: Sample | None,
    stands: Stands,
    for_size: Callable[[ModelFile], bool],
    left: Callable[[], float],
    files: Sequence[TimedFile],
) -> list[Scored | NotScored]:
    """The score of each file of a family, on the whole split where it would be on the front: ``stands``, and no faster
    file of the family that does is as good on the same examples. score: files, on a sample or all (None), within so
    many seconds. sample: None to score all on the whole split. for_size: whether a file is made for its size, and so
    scored on the whole split whatever its speed. left: seconds that there are.
    """
    if not files:
        return []
    answers = list(await score(files, sample, left()))
    best = -math.inf  # of the faster ones that stand, on the sample
    for number in sorted(range(len(files)), key=lambda i: files[i][1].ratio):
        (file, latency), answer = files[number], answers[number]
        if not isinstance(answer, Scored):
            continue
        on_front = answer.score.val > best and stands(answer.score.val, latency.ratio)
        if not on_front and not for_size(file):
            continue
        if not answer.score.whole:
            (answers[number],) = await score([files[number]], None, left())
        if on_front and isinstance(answers[number], Scored):
            best = answer.score.val
    return answers

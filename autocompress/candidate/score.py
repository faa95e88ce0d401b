"""A finished file: scored and counted, its outputs kept for comparisons on the same examples; later tested."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from autocompress.candidate.count import compressed_size, count
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import ModelFile, NotScored, Sample, Scored
from autocompress.data import Split, chance_score, compared_score, paired_difference, score_of, spread, targets_of
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Chance, Score
from autocompress.measure import outputs_of


def score_files(
    opened: OpenTask, files: Sequence[ModelFile], sample: Sample | None = None
) -> tuple[Scored | NotScored, ...]:
    """Score files on the validation split, or beside the reference on a sample of it; one that cannot be scored costs
    itself alone.
    """
    found: list[Scored | NotScored] = []
    for file in files:
        try:
            found.append(_scored(opened, file, sample))
        except CandidateFailed as error:
            found.append(NotScored(error.strategy, error.reason))
    return tuple(found)


def _scored(opened: OpenTask, file: ModelFile, sample: Sample | None) -> Scored:
    """Of a sample that does not tell, the score on the whole split."""
    path = opened.folder.root / file.path
    split = opened.val if sample is None else opened.val.sampled(sample.examples)
    with opened.supervisor.during("score", f"score: {file.recipe.techniques()}"), ThreadPoolExecutor(1) as beside:
        packed = beside.submit(compressed_size, path)

        def give_way() -> None:
            packed.result()
            opened.lock.give_way()

        outputs = outputs_of(lambda: opened.open(path), split, opened.profile.batch, give_way)
    if not torch.isfinite(outputs).all():
        raise CandidateFailed("the model gives NaN or infinite outputs on the validation split")
    own = score_of(opened.task, outputs, targets_of(split)) if sample is None else _compared(opened, outputs, sample)
    if own is None:
        return _scored(opened, file, None)
    if not math.isfinite(own.val):
        raise CandidateFailed(f"the metric is {own.val} on the validation split")
    key = opened.store.key("val", file.digest, str(own.sampled or ""))
    opened.store.save(key, {"outputs": outputs})
    params, macs = count(path)
    return Scored(own, path.stat().st_size, packed.result(), params, macs, key)


def _compared(opened: OpenTask, outputs: Tensor, sample: Sample) -> Score | None:
    """Told from a sample; None where that cannot be: the reference's outputs are not kept any more, or the metric is
    undefined there, as an area under a curve is without both classes.
    """
    stored, split = opened.store.load(sample.outputs), opened.val.sampled(sample.examples)
    if stored is None:
        return None
    reference = stored["outputs"][spread(opened.val.size, sample.examples)]
    try:
        score = compared_score(opened.task, outputs, reference, targets_of(split), sample.score)
    except Exception:  # the user's metric raises anything
        return None
    return score if math.isfinite(score.val) else None


def test_scores(opened: OpenTask, files: Sequence[ModelFile]) -> list[float]:
    """The metric of finished files on the test split. Raises CandidateFailed when there is none."""
    if opened.test is None:
        raise CandidateFailed("the task has no test split")
    test = opened.test
    targets, scores = targets_of(test), []
    for file in files:
        path = opened.folder.root / file.path
        with opened.supervisor.during("score", f"test: {file.recipe.techniques()}"):
            outputs = _outputs(opened, path, test)
        scores.append(float(opened.task.metric_fn(outputs, targets)))
    return scores


def _outputs(opened: OpenTask, path: Path, split: Split) -> Tensor:
    return outputs_of(lambda: opened.open(path), split, opened.profile.batch, opened.lock.give_way)


def differences(opened: OpenTask, best: str, others: Sequence[str]) -> list[tuple[float, float]]:
    """For each of ``others``: (score of ``best`` minus its own on the same validation examples, standard error). All
    are store keys of outputs. Raises CandidateFailed when some are missing.
    """
    targets = targets_of(opened.val)
    return [paired_difference(opened.task, _stored(opened, best), _stored(opened, other), targets) for other in others]


def chance(opened: OpenTask, outputs: str) -> Chance | None:
    """What the metric gives for outputs, a store key, where they have nothing to do with the targets; None where it
    cannot be worked out. Raises CandidateFailed when they are missing.
    """
    return chance_score(opened.task, _stored(opened, outputs), targets_of(opened.val))


def _stored(opened: OpenTask, key: str) -> Tensor:
    stored = opened.store.load(key)
    if stored is None:
        raise CandidateFailed(f"the stored outputs {key} are missing")
    return stored["outputs"]

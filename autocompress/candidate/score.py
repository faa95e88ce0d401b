"""A finished file: scored and counted, what its metric needs kept to be compared on the same examples; later tested."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from autocompress.candidate.count import compressed_size, count
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.precision import precision_of
from autocompress.candidate.request import ModelFile, NotScored, Sample, Scored
from autocompress.data import KeptOutputs, ScoredSet
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Chance, OnDevice, Score
from autocompress.group_losses import GroupLosses
from autocompress.measure import DeviceRefused, DeviceSession, outputs_of
from autocompress.nested import Nested
from autocompress.plugin.contract import Session

ON_DEVICE = 200  # validation examples that a file is run on there and here
PIECE_ON_DEVICE = 64  # of them at once
TOLERATED = 0.001  # of the metric, that it may be worse there


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
    val = opened.val if sample is None else opened.val.sampled(sample.examples)
    with opened.supervisor.during("score", f"score: {file.recipe.techniques()}"), ThreadPoolExecutor(1) as beside:
        packed = beside.submit(compressed_size, path)

        def give_way() -> None:
            packed.result()
            opened.lock.give_way()

        kept = kept_here(opened, path, val, give_way)
        own = val.score(kept) if sample is None else _compared(opened, kept, val, sample, give_way)
    if own is None:
        return _scored(opened, file, None)
    if not math.isfinite(own.val):
        raise CandidateFailed(f"the metric is {own.val} on the validation split")
    key = opened.store.key("val", file.digest, str(own.sampled or ""))
    opened.store.save(key, kept)
    params, macs = count(path, opened.feeds[0])
    return Scored(own, path.stat().st_size, packed.result(), params, macs, key, precision_of(path))


def _compared(
    opened: OpenTask, kept: KeptOutputs, val: ScoredSet, sample: Sample, give_way: Callable[[], None]
) -> Score | None:
    """Told from a sample; None where that cannot be: what was kept of the reference's outputs is gone, or the metric is
    undefined there, as an area under a curve is without both classes.
    """
    reference = _reference_on(opened, val, sample, give_way)
    if reference is None:
        return None
    try:
        score = val.compared(kept, reference, sample.score)
    except CandidateFailed:
        return None
    return score if math.isfinite(score.val) else None


def _reference_on(opened: OpenTask, val: ScoredSet, sample: Sample, give_way: Callable[[], None]) -> KeptOutputs | None:
    """What is kept of the reference's outputs on a sample: part of what was kept of all, or, where that is in blocks of
    examples, kept anew once.
    """
    stored = opened.store.load(sample.outputs)
    if stored is None:
        return None
    if (part := opened.val.sample_of(stored, sample.examples)) is not None:
        return part
    key = opened.store.key("val", sample.outputs, str(sample.examples))
    if (known := opened.store.load(key)) is not None:
        return known
    kept = kept_here(opened, opened.folder.reference, val, give_way)
    opened.store.save(key, kept)
    return kept


def run_on_device(opened: OpenTask, file: ModelFile, reference: str) -> OnDevice:
    """A file on the device elsewhere beside this machine, on a sample of the validation split; where its score falls
    there, on all of it. What the device cannot run has failed. reference: store key of the reference's outputs here.
    Raises CandidateFailed when it could not be run this time, and DeviceLost.
    """
    path, sample = opened.folder.root / file.path, opened.val.sampled(ON_DEVICE)
    there, found, of_reference = (
        partial(DeviceSession, opened.profile, path),
        OnDevice(),
        stored_outputs(opened, reference),
    )
    with opened.supervisor.during("score", f"on the device: {file.recipe.techniques()}"):
        here, farthest = kept_here(opened, path, sample, opened.lock.give_way), [0.0, 0.0]
        try:
            kept = sample.kept(_beside(opened, path, sample, there, farthest))
            difference, error = sample.difference(kept, here)
            told = math.isfinite(difference) and math.isfinite(error)
            found = OnDevice(
                len(sample),
                farthest[0] / farthest[1] if farthest[1] else farthest[0],
                difference if told else None,
                error if told else None,
            )
            if told and -difference <= max(error, TOLERATED):
                return found
            whole = _kept_by(opened, there, opened.val, opened.lock.give_way, read=PIECE_ON_DEVICE, sessions=1)
        except DeviceRefused as refused:
            return replace(found, failed=refused.reason)
        score, loss = opened.val.score(whole), opened.val.difference(of_reference, whole)
        if not all(map(math.isfinite, (score.val, *loss))):
            return replace(found, failed=f"the metric is {score.val} there")
        key = opened.store.key("val", file.digest, "on the device")
        opened.store.save(key, whole)
        return replace(found, score=score, loss=loss, outputs=key)


def _beside(
    opened: OpenTask, path: Path, sample: ScoredSet, there: Callable[[], Session], farthest: list[float]
) -> Iterator[tuple[Mapping[str, Tensor], Nested]]:
    """The outputs of the device, piece by piece. farthest: of the scored outputs, how far those there are from those
    here at most, and the largest here; kept up to date.
    """
    scored, asked = opened.context.layout.scored, (sample.split, opened.profile.batch, opened.context.layout)
    ways = (lambda: opened.open(path)), there
    outputs = (outputs_of(way, *asked, read=PIECE_ON_DEVICE, sessions=1) for way in ways)
    for (batch, ours), (_, theirs) in zip(*outputs, strict=True):
        if not torch.isfinite(theirs[scored]).all():
            raise DeviceRefused("the model gives NaN or infinite outputs there")
        mine, other = (rows[scored].double() for rows in (ours, theirs))
        if mine.shape != other.shape:
            raise DeviceRefused(f"an output is of another shape there: {tuple(other.shape)}, here {tuple(mine.shape)}")
        farthest[0] = max(farthest[0], float((mine - other).abs().max()))
        farthest[1] = max(farthest[1], float(mine.abs().max()))
        yield theirs, batch.targets


def test_scores(opened: OpenTask, files: Sequence[ModelFile]) -> list[float]:
    """The metric of finished files on the test split. Raises CandidateFailed when there is none."""
    if opened.test is None:
        raise CandidateFailed("the task has no test split")
    scores = []
    for file in files:
        with opened.supervisor.during("score", f"test: {file.recipe.techniques()}"):
            kept = kept_here(opened, opened.folder.root / file.path, opened.test, opened.lock.give_way)
            scores.append(opened.test.value(kept))
    return scores


def kept_here(opened: OpenTask, path: Path, examples: ScoredSet, give_way: Callable[[], None]) -> KeptOutputs:
    """What is kept of a file's outputs here."""
    return _kept_by(opened, lambda: opened.open(path), examples, give_way)


def _kept_by(
    opened: OpenTask, open_file: Callable[[], Session], examples: ScoredSet, give_way: Callable[[], None], **how: int
) -> KeptOutputs:
    """What is kept of a file's outputs. Raises CandidateFailed when they are no numbers."""
    layout = opened.context.layout

    def pieces() -> Iterator[tuple[Mapping[str, Tensor], Nested]]:
        for batch, rows in outputs_of(open_file, examples.split, opened.profile.batch, layout, give_way, **how):
            lost = [name for name, row in rows.items() if row.isnan().any()]
            if lost or not torch.isfinite(rows[layout.scored]).all():
                raise CandidateFailed(f"the model gives NaN or infinite outputs on the {examples.split.title} split")
            yield rows, batch.targets

    return examples.kept(pieces())


def differences(opened: OpenTask, best: str, others: Sequence[str]) -> list[tuple[float, float]]:
    """For each of ``others``: (score of ``best`` minus its own on the same validation examples, standard error). All
    are store keys of what was kept of outputs. Raises CandidateFailed when some are missing.
    """
    return [opened.val.difference(stored_outputs(opened, best), stored_outputs(opened, other)) for other in others]


def by_class(opened: OpenTask, reference: str, own: str) -> GroupLosses | None:
    """What a file loses against the reference in each group of validation examples; None where that cannot be told.
    Both are store keys of what was kept of outputs. Raises CandidateFailed when one is missing.
    """
    with opened.supervisor.during("score", "class by class"):
        return opened.val.by_group(stored_outputs(opened, own), stored_outputs(opened, reference))


def chance(opened: OpenTask, outputs: str) -> Chance | None:
    """What the metric gives for the reference's outputs, a store key, where they have nothing to do with the targets;
    None where it cannot be worked out. Raises CandidateFailed when they are missing, and UsageError when the metric
    rewards what is worse.
    """
    sample = opened.val.permutable()
    if sample is None:
        return opened.val.chance(stored_outputs(opened, outputs))
    with opened.supervisor.during("score", "score: permuted targets"):
        return sample.chance(kept_here(opened, opened.folder.reference, sample, opened.lock.give_way))


def stored_outputs(opened: OpenTask, key: str) -> KeptOutputs:
    """What was kept of a file's outputs. Raises CandidateFailed when it is missing."""
    stored = opened.store.load(key)
    if stored is None:
        raise CandidateFailed(f"the stored outputs {key} are missing")
    return stored

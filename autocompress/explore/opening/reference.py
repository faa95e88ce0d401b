"""Before any candidate: settle the exporter, ask what the strategies offer, evaluate the reference. Each is an
operation of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from autocompress.candidate.export import EXPORTERS
from autocompress.candidate.make import discard
from autocompress.candidate.preparation import Preparation
from autocompress.compute.operations import Operations
from autocompress.errors import CandidateFailed, UsageError
from autocompress.evaluation import Evaluation, Outcome
from autocompress.explore.opening.opening import EarlierOpening, Opening
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.pipeline.variants import untimed
from autocompress.latency import beside_itself
from autocompress.measure import MOSTLY, CompareRequest, latency_of
from autocompress.profile import HardwareProfile
from autocompress.score_scale import POINTS, ScoreScale
from autocompress.storage.atomic import copy_file
from autocompress.storage.folder import RunFolder

BETWEEN_EXPORTERS = 2  # sessions, that compare their files
CLEARLY_FASTER = 0.97  # of the latency of the first exporter's file, which is the one that is quicker to write
ABOVE_CHANCE = 0.01  # of the metric: what a reference has to have over always answering the commonest class
EXAMPLE_DROP = 2  # points, to say what they are
LEAST_SCALE, MOST_SCALE = 0.02, 10.0  # of a metric whose hundredths mean something


async def open_reference(
    pipeline: Pipeline,
    known: EarlierOpening | None,
    only: Sequence[str] | None,
    *,
    limit_s: float,
    compare_exporters: bool = True,
) -> Opening:
    """Evaluate the reference. Raises UsageError when it cannot be evaluated.

    pipeline: on the prepared task. known: what an earlier process found; what it measured is kept unless the reference
    was exported anew. compare_exporters: whether the other exporter is tried too.
    """
    operations, prepared = pipeline.operations, pipeline.prepared
    if prepared.exported:
        known = None
    if known is None:
        if compare_exporters:
            prepared = await _with_the_faster_exporter(pipeline, limit_s)
        prepared = await _asked_again(pipeline.on(prepared), only, limit_s)
    operations.opened(prepared, only)
    if known is not None:
        reference, family, chance = known.reference, known.reference_family, known.chance
    else:
        unscored = replace(pipeline.on(prepared), ratios=untimed(prepared.applicable, only))
        reference, family = await _evaluated_reference(unscored, limit_s)
        chance = await operations.chance(reference.outputs, limit_s=limit_s)
    warnings = (
        *prepared.warnings,
        *_chance(prepared, reference),
        *_scale(ScoreScale(prepared.metric, prepared.maximize), reference),
        *_busy(reference),
        *_overhead(prepared, reference),
    )
    return Opening(prepared, reference, family, warnings, chance)


async def open_task(
    operations: Operations,
    prepared: Preparation,
    folder: RunFolder,
    profile: HardwareProfile,
    seed: int,
    only: Sequence[str] | None = None,
    *,
    compare_exporters: bool = True,
    limit_s: float = math.inf,
) -> tuple[Opening, Pipeline]:
    """Finish opening a prepared task for a few candidates, without a search around them. limit_s: of each operation."""
    first = Pipeline(operations, folder, profile, seed, prepared, untimed(prepared.applicable, only))
    opening = await open_reference(first, None, only, limit_s=limit_s, compare_exporters=compare_exporters)
    return opening, informed(first, opening, only)


def informed(pipeline: Pipeline, opening: Opening, only: Sequence[str] | None) -> Pipeline:
    """A pipeline that goes by what the opening found out."""
    return replace(pipeline.on(opening.prepared), ratios=opening.ratios(only))


async def _with_the_faster_exporter(pipeline: Pipeline, limit_s: float) -> Preparation:
    """Export the reference by the other exporter too, and go on from its file where that is clearly faster. Raises
    UsageError when it finds that the model cannot be held by a graph.
    """
    prepared, (first, other) = pipeline.prepared, EXPORTERS
    if prepared.exporter != first:
        return prepared
    operations, folder = pipeline.operations, pipeline.folder
    try:
        file = await operations.other_reference(other, limit_s=limit_s)
    except CandidateFailed as error:
        return replace(prepared, export_note=f"by {first}; {other} failed: {error.reason}")
    path = folder.root / file.path
    request = CompareRequest(path, folder.reference, prepared.feeds, pipeline.session_s)
    latency = latency_of([await operations.compare(request, limit_s=limit_s) for _ in range(BETWEEN_EXPORTERS)])
    note = f"the file of {other} takes {latency.ratio:.2f}x the time of {first}'s"
    if latency.ratio_high >= CLEARLY_FASTER:
        discard(path)
        return replace(prepared, export_note=f"by {first}; {note}")
    copy_file(path, folder.reference)
    discard(path)
    reference = replace(file, path=folder.relative(folder.reference))
    return replace(prepared, exporter=other, export_note=f"by {other}; {note}", reference=reference)


async def _asked_again(pipeline: Pipeline, only: Sequence[str] | None, limit_s: float) -> Preparation:
    """What the strategies with a graph part offer for the file that the reference is now, with all examples and where
    scores count too.
    """
    prepared = pipeline.prepared
    applicable, refused = await pipeline.operations.survey(only, limit_s=limit_s)
    asked = {a.name for a in applicable} | {r.strategy for r in refused}
    applicable += tuple(a for a in prepared.applicable if a.name not in asked)
    refused += tuple(r for r in prepared.refused if r.strategy not in asked)
    return replace(
        prepared,
        applicable=tuple(sorted(applicable, key=lambda a: a.name)),
        refused=tuple(sorted(refused, key=lambda r: r.strategy)),
    )


async def _evaluated_reference(pipeline: Pipeline, limit_s: float) -> tuple[Evaluation, Outcome]:
    """The unchanged model as a family: its float file is the reference, its graph variants are the first candidates."""
    try:
        family = await pipeline.evaluate_reference(limit_s)
    except CandidateFailed as error:
        raise UsageError(f"the reference cannot be evaluated: {error.reason}") from error
    own = next((e for e in family.evaluations if not e.recipe.changes), None)
    if own is None:
        raise UsageError(f"the reference cannot be evaluated: {family.failed[0][2]}")
    reference = replace(own, id="reference", latency=beside_itself(own.latency))
    return reference, replace(family, evaluations=tuple(e for e in family.evaluations if e.recipe.changes))


def _chance(prepared: Preparation, reference: Evaluation) -> list[str]:
    if prepared.chance is None or reference.score.val > prepared.chance + ABOVE_CHANCE:
        return []
    return [
        f"the reference scores {reference.score.val:.4f}, no better than "
        f"always answering the commonest class ({prepared.chance:.4f})"
    ]


def _scale(scale: ScoreScale, reference: Evaluation) -> list[str]:
    """Points, and what counts as a loss, are hundredths of the metric's unit."""
    value = abs(reference.score.val)
    if scale.in_percent or LEAST_SCALE < value < MOST_SCALE:
        return []
    share = f" ({100 * EXAMPLE_DROP / POINTS / value:.2g} % of that)" if value else ""
    return [
        f"{scale.metric} is {scale.scored(reference.score)} on the reference, and points are hundredths of its unit: "
        f"--max-drop {EXAMPLE_DROP} stands for {EXAMPLE_DROP / POINTS:g} of {scale.metric}{share}; scale Task.metric "
        "so that 0.01 is a difference that matters, or ask for as many points as matter"
    ]


def _overhead(prepared: Preparation, reference: Evaluation) -> list[str]:
    if reference.latency.p50 >= MOSTLY * prepared.overhead_ms:
        return []
    return [
        f"a call of the reference takes {reference.latency.p50:.3g} ms, and one of a file that computes nothing "
        f"{prepared.overhead_ms:.3g} ms: hardly more than that can be gained here; a larger batch in the profile "
        "shows what the model itself takes"
    ]


def _busy(reference: Evaluation) -> list[str]:
    if reference.latency.quiet:
        return []
    return [
        "other work kept this machine busy while the reference was timed: its milliseconds may be too many, and what a "
        "budget in milliseconds asks for too fast (autocompress measure MODEL --check says what would help)"
    ]

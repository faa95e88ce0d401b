"""How long the steps of a search take here: each is done with a family that can be built."""

import time
from dataclasses import dataclass, replace

from autocompress.candidate.make import discard
from autocompress.candidate.request import TrainRequest, UntrainedFiles
from autocompress.errors import CandidateFailed
from autocompress.explore.opening.identity import Settings
from autocompress.explore.opening.opener import Opened
from autocompress.explore.progress import Progress
from autocompress.explore.schedule.rungs import TRAINED, UNTRAINED, lengths
from autocompress.explore.space.ladders import single_defaults
from autocompress.measure import CompareRequest
from autocompress.recipe import TRAIN, Recipe

WARM_S = 8.0  # of a first family that took less, most may be what a process does once: a second one is timed
STEP_LIMIT_S = 300.0  # for one step that is timed
TIMED_TRAINING_S = 3.0  # for timing training steps, the first of which are slower


@dataclass(frozen=True)
class StepTimes:
    """Seconds, each as it was timed once. tried: the family that was tried; empty where no strategy makes one.
    structure: a structure, planned, built and exported. comparison: a timing session beside the reference. family: a
    structure repaired, and its files made, timed and scored. training_step: of ``batch`` examples, the teacher's part
    included. None where a step was not come to.
    """

    opening: float
    tried: str = ""
    structure: float | None = None
    comparison: float | None = None
    family: float | None = None
    training_step: float | None = None
    batch: int | None = None


async def timed_steps(opened: Opened, progress: Progress, settings: Settings, opening_s: float) -> StepTimes:
    """Each step of the first family that can be built, or of the second one where the first was quick."""
    times = StepTimes(opening_s)
    for recipe in single_defaults(opened.space):
        began, is_first = time.monotonic(), not times.tried
        try:
            found = await _timed_family(opened, recipe, progress, settings, StepTimes(opening_s))
        except CandidateFailed:
            continue
        times = found if is_first or found.training_step is not None else times
        if not is_first or time.monotonic() - began > WARM_S:
            break
    return times


async def _timed_family(
    opened: Opened, recipe: Recipe, progress: Progress, settings: Settings, times: StepTimes
) -> StepTimes:
    """Raises CandidateFailed where its structure cannot be made; what comes after that is left out where it fails."""
    pipeline, operations = opened.pipeline, opened.pipeline.operations
    began = time.monotonic()
    made = await operations.make(UntrainedFiles(recipe, pipeline.prepared.exporter), limit_s=STEP_LIMIT_S)
    structure_s, file = time.monotonic() - began, pipeline.folder.root / made.source.path
    request = CompareRequest(file, pipeline.folder.reference, pipeline.prepared.feeds, pipeline.session_s)
    began = time.monotonic()
    await operations.compare(request, limit_s=STEP_LIMIT_S)
    times = replace(times, tried=recipe.techniques(), structure=structure_s, comparison=time.monotonic() - began)
    discard(file)
    asked, began = TrainRequest(recipe, rung=UNTRAINED, plans=made.plans), time.monotonic()
    try:
        outcome = await pipeline.evaluate(asked, limit_s=STEP_LIMIT_S, first_look=True)
        times = replace(times, family=time.monotonic() - began)
        train = recipe.step(TRAIN)
        if train is None or progress.arithmetic is None:
            return times
        trained = await operations.train(
            replace(
                asked,
                rung=TRAINED,
                arithmetic=progress.arithmetic,
                examples=lengths(60 * settings.minutes, opened.policy)[TRAINED].examples,
                limit_s=TIMED_TRAINING_S,
                checkpoint=outcome.checkpoint,
                calibration=outcome.calibration,
            ),
            limit_s=STEP_LIMIT_S,
        )
    except CandidateFailed:
        return times
    batch = int(train.values["batch_size"])
    steps = max(1.0, trained.examples / batch)
    return replace(times, training_step=trained.seconds / steps, batch=batch)

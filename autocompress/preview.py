"""``search --dry-run``: the task opened as a search opens it, one family tried, and what that says of the rest."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from autocompress.api import (
    SearchRequest,
    named_task,
    observers_of,
    on_its_target,
    operations_for,
    run_to_end,
    teller,
    workers_for,
)
from autocompress.budget import Budget
from autocompress.candidate.make import discard
from autocompress.candidate.request import TrainRequest, UntrainedFiles
from autocompress.commands.inspect import reference_found, strategies_found
from autocompress.errors import CandidateFailed, UsageError
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.driver import EXPLAINING_SHARE
from autocompress.explore.opening.floor import Floor, meets
from autocompress.explore.opening.identity import (
    Settings,
    refuse_another_search,
    refuse_another_version,
    settings_json,
)
from autocompress.explore.opening.opener import Opened, Opener
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.progress import Progress
from autocompress.explore.schedule.rungs import LAST, TRAINED, UNTRAINED, lengths
from autocompress.explore.schedule.time_budget import CONTENDERS, FINALISTS, FULL_EPOCHS
from autocompress.explore.space.ladders import single_defaults
from autocompress.measure import CompareRequest
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.plugin.observer import Observer
from autocompress.recipe import TRAIN, Recipe
from autocompress.report.terminal import TerminalView
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record
from autocompress.supervisor import Supervisor, stop_signals
from autocompress.task import Task

STEP_LIMIT_S = 300.0  # for one step that is timed
TIMED_TRAINING_S = 3.0  # for timing training steps, the first of which are slower
IN_REACH, OUT_OF_REACH, NOT_KNOWN, NO_BUDGET = "in reach", "out of reach", "not known", "no budget"
FLOOR_SHARE = 0.03  # of --minutes, for sets of strategies, where no strategy alone meets the budget


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


@dataclass(frozen=True)
class Fits:
    """What there is time for, as far as one family tells. families: tried untrained; trained: of these.
    first_training, finishing: seconds of the one and, at most, of training the finalists in full. *_epochs: over the
    training split.
    """

    families: int
    trained: int
    first_training: float
    first_epochs: float
    finishing: float
    full_epochs: float


def dry_run(
    task: Task | str | None = None,
    *,
    data: str | Path | None = None,
    checkpoint: str | Path | None = None,
    budget_ms: float | None = None,
    speedup: float | None = None,
    max_drop: float | None = None,
    max_class_drop: float | None = None,
    profile: str = "cpu",
    space: str = "default",
    minutes: float | None = None,
    trials: int | None = None,
    workers: int | None = None,
    no_train: bool = False,
    explain: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
    console: Console | None = None,
    observe: Sequence[str | Observer] = (),
    plugins: PluginSet | None = None,
    policy: SearchPolicy = SearchPolicy(),
) -> dict[str, Any]:
    """What ``search`` with the same arguments would begin with: ``reference``, what ``applies`` and what
    ``does_not_apply`` with the reason, how long steps ``takes_s`` here, what of it ``fits`` into the time, and whether
    the budget is in ``reach``. Nothing is written: the run folder is named and not made, and nobody is told of
    anything. What fits is what one worker has time for, of the time that an earlier search in the folder left.

    Raises UsageError for bad input, and for a run folder that ``search`` would refuse, Interrupted, and
    AutocompressError for anything else a user can act on.
    """
    console, plugins = console or Console(stderr=True), plugins or load_plugins()
    workers_for(workers)
    request = SearchRequest(
        task=named_task(task, data, checkpoint, plugins),
        budget=Budget(budget_ms, speedup, max_drop, max_class_drop=max_class_drop),
        profile=profile,
        space=space,
        minutes=minutes,
        trials=trials,
        no_train=no_train,
        explain=explain,
        out=Path(out) if out is not None else None,
        seed=seed,
    )
    settings = request.settings(plugins, teller(console, quiet))
    observers_of(observe, plugins)
    settings = on_its_target(settings, request.target, plugins)
    RunFolder(settings.out).refuse_others()
    with tempfile.TemporaryDirectory(prefix="autocompress-") as scratch:
        earlier = earlier_search(settings, Path(scratch) / "earlier")
        folder = RunFolder(Path(scratch))
        found = _in_folder(settings, request.target, earlier, folder, plugins, console, quiet, policy)
    return {**found, "minutes": settings.minutes, "out": str(settings.out)}


@dataclass(frozen=True)
class EarlierSearch:
    """What the run folder holds. spent_s: seconds of its time; finished: whether the same command prints its result."""

    progress: Progress | None = None
    spent_s: float = 0.0
    finished: bool = False


def earlier_search(settings: Settings, copies: Path) -> EarlierSearch:
    """Of the run folder, from a copy of its record. copies: a folder to be made for that. Raises UsageError for a
    record that no search of this version goes on with.
    """
    study = RunFolder(settings.out).study
    if not study.exists():
        return EarlierSearch()
    copies.mkdir()
    for part in (study, study.with_name(f"{study.name}-wal")):  # which a killed search leaves
        if part.exists():
            shutil.copyfile(part, copies / part.name)
    try:
        record = open_record(copies / study.name)
        try:
            progress = Progress(record)
            refuse_another_version(progress)
        finally:
            record.close()
    except UsageError as error:
        raise UsageError(str(error).replace(str(copies / study.name), str(study))) from error
    finished = progress.finished == settings_json(settings) and RunFolder(settings.out).front.exists()
    return EarlierSearch(progress, progress.elapsed_s, finished)


def _in_folder(
    settings: Settings,
    task: Task | str,
    earlier: EarlierSearch,
    folder: RunFolder,
    plugins: PluginSet,
    console: Console,
    quiet: bool,
    policy: SearchPolicy,
) -> dict[str, Any]:
    record, clock = open_record(folder.study), Clock(settings.minutes * 60)
    progress, durations = Progress(record), Durations(clock)
    with TerminalView(console, quiet) as view, stop_signals() as interrupted:
        supervisor = Supervisor(view.doing, view.note, lambda: interrupted() is not None)
        operations = operations_for(
            settings, task, 1, folder, plugins, view, supervisor, clock, policy.workers, progress
        )

        async def whole() -> dict[str, Any]:
            try:
                opener = Opener(
                    settings,
                    operations,
                    folder,
                    record,
                    clock,
                    durations,
                    supervisor.check,
                    lambda opening, space: None,
                    lambda text: None,
                    replace(policy, floor_share=FLOOR_SHARE),
                )
                opened = await opener.open()
                if earlier.progress is not None:
                    refuse_another_search(earlier.progress, settings, opened.space)
                times = await _timed(opened, progress, settings, clock.elapsed())
                reached = reach(opened, settings.budget)
                nothing_fits = earlier.finished or reached["answer"] == OUT_OF_REACH
                fits = None if nothing_fits else what_fits(opened, settings, times, earlier.spent_s)
                return {
                    **reference_found(opened.opening, opened.opening.prepared.val_examples),
                    **strategies_found(opened.opening, plugins),
                    "takes_s": asdict(times),
                    "fits": None if fits is None else asdict(fits),
                    "spent_minutes": earlier.spent_s / 60,
                    "finished": earlier.finished,
                    "reach": reached,
                    "warnings": list(opened.opening.warnings),
                }
            finally:
                operations.kill()

        try:
            return run_to_end(whole())
        finally:
            operations.close()
            record.close()


async def _timed(opened: Opened, progress: Progress, settings: Settings, opening_s: float) -> StepTimes:
    """Each step of the first family that can be built."""
    for recipe in single_defaults(opened.space):
        try:
            return await _timed_family(opened, recipe, progress, settings, StepTimes(opening_s))
        except CandidateFailed:
            continue
    return StepTimes(opening_s)


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


def what_fits(opened: Opened, settings: Settings, times: StepTimes, spent_s: float = 0.0) -> Fits | None:
    """None where no family could be tried to the end. spent_s: of the time, by an earlier search in the run folder."""
    if times.family is None or times.structure is None or times.comparison is None:
        return None
    explaining_s = 60 * EXPLAINING_SHARE * settings.minutes if settings.explain else 0.0
    whole_s, policy, split = 60 * settings.minutes, opened.policy, opened.opening.prepared.train_examples
    left_s = max(0.0, whole_s - spent_s - times.opening - explaining_s)
    each_s = times.structure + times.comparison + times.family
    if times.training_step is None or times.batch is None:
        count = _at_most(settings.trials, left_s / each_s)
        return Fits(count, 0, 0.0, 0.0, 0.0, 0.0)
    rungs = lengths(whole_s, policy)
    example_s = times.training_step / times.batch
    first_s = min(rungs[TRAINED].seconds, rungs[TRAINED].examples * example_s)
    bounded = settings.budget.bounded and reach(opened, settings.budget)["met_by"] is None
    share, finalists = (policy.most_finishing, CONTENDERS) if bounded else (policy.most_for_front, FINALISTS)
    full_s = min(rungs[LAST].seconds * 2, FULL_EPOCHS * split * example_s)
    finishing_s = min(share * whole_s, finalists * (full_s + times.family), left_s)
    families = (left_s - finishing_s) / (each_s + (first_s + times.family) / policy.eta)
    count = _at_most(settings.trials, families)
    return Fits(
        families=count,
        trained=-(-count // policy.eta),
        first_training=first_s,
        first_epochs=first_s / example_s / split,
        finishing=finishing_s,
        full_epochs=min(FULL_EPOCHS, max(0.0, finishing_s / finalists - times.family) / example_s / split),
    )


def _at_most(trials: int | None, count: float) -> int:
    return int(count) if trials is None else min(trials, int(count))


def reach(opened: Opened, budget: Budget) -> dict[str, Any]:
    """Whether the budget can be met, as far as was looked. met_by: the file of the unchanged model that does;
    floor_ms, floor_speedup: of the fastest model found of the space, where it was looked for. complete: whether there
    was time to look at all that might be faster.
    """
    unchanged = (opened.opening.reference, *opened.opening.reference_family.evaluations)
    within = [e for e in unchanged if budget.bounded and budget.excess(e.latency) <= 0]
    met_by = min(within, key=lambda e: e.latency.ratio).recipe.techniques() if within else None
    floor = opened.floor.found
    return {
        "budget": str(budget) if budget.bounded else None,
        "answer": _answer(opened.floor, budget, met=bool(within)),
        "met_by": met_by,
        "floor_ms": floor[1].statistic if floor else None,
        "floor_speedup": 1 / floor[1].ratio if floor else None,
        "complete": not opened.floor.cut_off,
    }


def _answer(floor: Floor, budget: Budget, *, met: bool) -> str:
    """Out of reach is what nothing in the space is fast enough for, and everything was looked at."""
    if not budget.bounded:
        return NO_BUDGET
    if met or (floor.found is not None and meets(budget, floor.found[1])):
        return IN_REACH
    return OUT_OF_REACH if floor.is_over and not floor.cut_off else NOT_KNOWN


__all__ = ["dry_run"]

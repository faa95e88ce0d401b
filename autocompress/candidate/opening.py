"""Before any candidate: read and check the data, export and measure the reference, ask every strategy whether it
applies.
"""

import math
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autocompress.candidate.arithmetic import Arithmetic, fastest_arithmetic
from autocompress.candidate.artifact import profile_inputs
from autocompress.candidate.bench import Bench, Request
from autocompress.candidate.evaluate import Evaluation, Outcome, feed_of
from autocompress.candidate.export import EXPORTERS, check, export_with, refuse_unexportable
from autocompress.candidate.measure import Effort, measure, timer
from autocompress.candidate.pipeline import evaluate
from autocompress.candidate.plans import StoredPlans
from autocompress.candidate.room import Room
from autocompress.candidate.stream import TaughtBlocks, TrainStream
from autocompress.candidate.supervisor import Supervisor
from autocompress.candidate.survey import survey
from autocompress.candidate.teacher import Teacher
from autocompress.data import Split, as_held, check_split, input_names, map_inputs, open_split, overlap, probe, spread
from autocompress.errors import CandidateFailed, UsageError, one_line
from autocompress.plugin.contract import Applicable, Context, Feed, Refusal, Runtime
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, Step
from autocompress.run.folder import RunFolder
from autocompress.run.store import Store, copy_file, replacing
from autocompress.task import Task, fingerprint

FASTER = Effort(seconds=1.0, blocks=12, width=0.03)  # to choose between two exporters
SPEED_BATCH = 64
TIMED_FEEDS = 4
LEAST_SCALE, MOST_SCALE = 0.02, 10.0  # of a metric whose hundredths mean something


@dataclass(frozen=True)
class Opening:
    """What the search needs to know of the task: plain data, sent between processes.

    arithmetic: how training computes. reference_family: the reference's own graph variants.
    """

    name: str
    fingerprint: str
    metric: str
    train_examples: int
    val_examples: int
    test_examples: int
    reference: Evaluation
    reference_family: Outcome
    applicable: tuple[Applicable, ...]
    refused: tuple[Refusal, ...]
    warnings: tuple[str, ...]
    arithmetic: Arithmetic
    exporter: str
    export_note: str  # which one, and why
    versions: dict[str, str]


@dataclass(frozen=True)
class Read:
    """A task whose data was read and checked; nothing was exported or measured."""

    context: Context
    splits: dict[str, Split]
    fingerprint: str
    warnings: tuple[str, ...]


def read_task(task: Task, profile: HardwareProfile, runtime: Runtime, reference: Path, seed: int) -> Read:
    """Read the splits and refuse what no search could use. Raises UsageError naming the split, the count and the
    first index.
    """
    splits = {
        name: open_split(name, getattr(task, name))
        for name in ("train", "val", "test")
        if getattr(task, name) is not None
    }
    for name in ("train", "val"):
        if name not in splits:
            raise UsageError(f"the task has no {name} split")
    samples = {name: split.sample_digest() for name, split in splits.items()}
    steady = {name: digest for name, digest in samples.items() if digest == splits[name].sample_digest()}
    warnings = [f"the {name} split gives other examples each time it is read" for name in samples if name not in steady]
    for split in splits.values():
        probe(task, split.take(torch.arange(min(2, len(split)))))
        check_split(split, task)
    for name in ("val", "test"):
        shared = overlap(splits["train"], splits[name]) if name in splits else 0
        if shared:
            warnings.append(f"{shared} examples of the {name} split are also in the training split: its scores flatter")
    two = splits["train"].take(torch.arange(min(2, len(splits["train"])))).inputs
    context = Context(
        task=task,
        profile=profile,
        runtime=runtime,
        model=task.copy_of_model(),
        example_inputs=two if task.example_inputs is None else map_inputs(as_held, task.example_inputs),
        train=splits["train"],
        reference=reference,
        seed=seed,
        feeds=lambda count: _feeds(splits["train"], profile.batch, count),
    )
    return Read(context, splits, fingerprint(task, steady), tuple(warnings))


def open_bench(
    task: Task,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    *,
    seed: int = 0,
    supervisor: Supervisor | None = None,
    room: Room | None = None,
    known: Opening | None = None,
    only: Collection[str] | None = None,
    scored: int | None = None,
) -> tuple[Bench, Opening]:
    """Open a task for a search. Raises UsageError for data or a model that no search could use.

    room: the way in, when other processes compute too. known: what another process found; its measurements are kept
    when the task is the same one. only: the strategies
    of the search space; others are not asked. scored: score on at most so many validation examples.
    """
    supervisor = supervisor or Supervisor()
    runtime = plugins.runtime(profile.runtime)
    room = room or Room(folder.root)
    store = Store(folder.stored, supervisor.note)
    with supervisor.during("open", "read the data"):
        read = read_task(task, profile, runtime, folder.reference, seed)
    train, val = read.splits["train"], read.splits["val"]
    if (
        known is not None and known.fingerprint != read.fingerprint
    ):  # before anything of the earlier run is written over
        raise UsageError(
            f"{folder.root} holds a search of another model, data or task file ({known.fingerprint} then, "
            f"{read.fingerprint} now): give another --out, or the task {folder.root} was made with"
        )
    if known is not None and not folder.reference.exists():
        known = None
    if known is None:
        exporter, export_note = _export_reference(read.context, val, runtime, folder, supervisor)
        with supervisor.during("open", "time a training step"), room.measuring():
            arithmetic = _arithmetic(task, train)
    else:
        exporter, export_note = known.exporter, known.export_note
        arithmetic = known.arithmetic if known.arithmetic.available() else _arithmetic(task, train)
    feeds = [feed_of(i, input_names(i)) for i in profile_inputs(val, profile.batch, TIMED_FEEDS)]
    applicable, refused = (known.applicable, known.refused) if known and known.applicable else (None, None)
    if applicable is None or refused is None:
        applicable, refused = survey(read.context, plugins, only, supervisor)
    bench = Bench(
        task=task,
        profile=profile,
        plugins=plugins,
        folder=folder,
        store=store,
        context=read.context,
        val=val if scored is None else _sample(val, scored),
        test=read.splits.get("test"),
        stream=TrainStream(
            task,
            train,
            Teacher(task.copy_of_model(), arithmetic),
            seed,
            TaughtBlocks(store, read.fingerprint, seed, str(arithmetic)),
        ),
        arithmetic=arithmetic,
        exporter=exporter,
        fingerprint=read.fingerprint,
        feeds=feeds,
        reference=timer(runtime, runtime.open(folder.reference, profile), feeds),
        room=room,
        supervisor=supervisor,
        plans=StoredPlans(store, read.fingerprint, seed, plugins),
        variants=tuple(
            (Step.of(a.name, **params), 1.0)
            for a in applicable
            if (a.size_only is None if only is None else a.name in only)
            for params in a.variants
        ),
    )
    reference, family = (known.reference, known.reference_family) if known else _measure_reference(bench)
    bench = replace(bench, variants=_by_speed(bench, family))
    return bench, Opening(
        name=task.name,
        fingerprint=read.fingerprint,
        metric=task.metric_name,
        train_examples=len(train),
        val_examples=len(val),
        test_examples=len(bench.test) if bench.test else 0,
        reference=reference,
        reference_family=family,
        applicable=tuple(applicable),
        refused=tuple(refused),
        warnings=(*read.warnings, *_chance(task, val, reference), *_scale(task, reference)),
        arithmetic=arithmetic,
        exporter=exporter,
        export_note=export_note,
        versions={**versions(runtime), "exporter": export_note},
    )


def _export_reference(
    context: Context, val: Split, runtime: Runtime, folder: RunFolder, supervisor: Supervisor
) -> tuple[str, str]:
    """Export the reference by both exporters and keep the faster file: which one, and why. Raises UsageError when
    neither gives a right one.
    """
    inputs = list(profile_inputs(val, context.profile.batch, 4))
    feeds = [feed_of(i, input_names(i)) for i in inputs]
    causes: dict[str, str] = {}
    files: dict[str, Path] = {}
    for exporter in EXPORTERS:
        path = folder.scratch / f"reference-{exporter}.onnx"
        try:
            with supervisor.during("export", f"export the reference ({exporter})"):
                with replacing(path) as temporary:
                    export_with(exporter, context.model, inputs[0], temporary)
                check(runtime.open(path, context.profile), feeds, context.model, inputs)
            files[exporter] = path
        except CandidateFailed as error:
            causes[exporter] = error.reason
    refuse_unexportable(causes)
    best = next(iter(files))
    note = f"by {best}" + "".join(f"; {exporter} failed: {cause}" for exporter, cause in causes.items())
    if len(files) == 2:
        with supervisor.during("measure", "measure"):
            one, other = (timer(runtime, runtime.open(files[e], context.profile), feeds) for e in EXPORTERS)
            # The dynamo file has to be clearly faster: the other exporter is the quicker one for every candidate.
            latency = measure(other, one, context.profile, effort=FASTER)
        best = "dynamo" if latency.ratio_high < 0.97 else "torchscript"
        note = f"by {best}; the file of dynamo takes {latency.ratio:.2f}x the time of torchscript's"
    copy_file(files[best], folder.reference)
    return best, note


def _measure_reference(bench: Bench) -> tuple[Evaluation, Outcome]:
    """The unchanged model as a family: its float file is the reference, its graph variants are the first candidates."""
    try:
        family = evaluate(bench, Request(Recipe()))
    except CandidateFailed as error:
        raise UsageError(f"the reference cannot be evaluated: {error.reason}") from error
    own = next((e for e in family.evaluations if not e.recipe.changes), None)
    if own is None:
        raise UsageError(f"the reference cannot be evaluated: {family.failed[0][2]}")
    exported = bench.folder.root / own.artifact
    exported.replace(bench.folder.reference)
    exported.with_name("recipe.toml").replace(bench.folder.reference.with_name("recipe.toml"))
    shutil.rmtree(exported.parent)
    # Against itself the ratio is one by definition.
    latency = replace(own.latency, ratio=1.0, ratio_low=1.0, ratio_high=1.0)
    reference = replace(own, id="reference", latency=latency, artifact=bench.folder.relative(bench.folder.reference))
    return reference, replace(family, evaluations=tuple(e for e in family.evaluations if e.recipe.changes))


def _by_speed(bench: Bench, family: Outcome) -> tuple[tuple[Step, float], ...]:
    """Graph variants with their ratio on the reference, fastest first. One that was slower there is kept: shapes may
    change that.
    """
    ratios = {e.recipe.variant: e.latency.ratio for e in family.evaluations}
    ratios |= {s.recipe.variant: s.ratio for s in family.slower}
    return tuple(sorted(((step, ratios.get(step, math.inf)) for step, _ in bench.variants), key=lambda pair: pair[1]))


def _sample(split: Split, count: int) -> Split:
    """At most ``count`` examples of a split, spread over it."""
    kept = spread(len(split), count)
    held = split.take(kept) if split.memory else None
    return Split(split.name, len(kept), lambda indices: split.take(kept[list(indices)]), held)


def _feeds(split: Split, batch: int, count: int) -> Iterator[Feed]:
    """Up to ``count`` training examples, spread over the split, as feeds at the profile's batch."""
    chosen = spread(len(split), count)
    for start in range(0, len(chosen), batch):
        indices = chosen[start : start + batch]
        if len(indices) < batch:
            indices = torch.cat([indices, indices[-1:].expand(batch - len(indices))])
        inputs = split.take(indices).inputs
        yield feed_of(inputs, input_names(inputs))


def _arithmetic(task: Task, train: Split) -> Arithmetic:
    batch = train.take(torch.arange(min(SPEED_BATCH, len(train))))
    try:
        return fastest_arithmetic(task.copy_of_model(), task.loss_fn, batch.inputs, batch.targets)
    except Exception as error:
        cause = f"{type(error).__name__}: {one_line(error, 200)}"
        raise UsageError(
            f"a training step of the reference fails: {cause}; check Task.loss against the model's outputs"
        ) from error


def _chance(task: Task, val: Split, reference: Evaluation) -> list[str]:
    if task.metric != "accuracy" or val.memory is None:
        return []
    targets = val.memory.targets
    chance = float(torch.unique(targets, return_counts=True)[1].max()) / targets.numel()
    if reference.score.val <= chance + 0.01:
        return [
            f"the reference scores {reference.score.val:.4f}, no better than "
            f"always answering the commonest class ({chance:.4f})"
        ]
    return []


def _scale(task: Task, reference: Evaluation) -> list[str]:
    """Points, and what counts as a loss, are hundredths of the metric's unit."""
    value = reference.score.val
    if task.metric == "accuracy" or LEAST_SCALE < abs(value) < MOST_SCALE:
        return []
    return [
        f"the metric is {value:.4g} on the reference, and differences are told in hundredths of one: scale Task.metric "
        "so that 0.01 is a difference that matters"
    ]


def versions(runtime: Runtime) -> dict[str, str]:
    """What made the numbers: versions, the processor, its cores."""
    import os
    import platform

    import onnx
    import optuna

    import autocompress

    cpu = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.processor() or "unknown",
    )
    return {
        "autocompress": autocompress.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "optuna": optuna.__version__,
        runtime.name: runtime.version(),
        "platform": platform.platform(),
        "cpu": cpu,
        "cores": str(os.cpu_count()),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []

"""Before the reference is scored: read and check the data, export the reference and ask every strategy whether it
applies. What comes of it can gate structures.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from autocompress.candidate.artifact import profile_inputs
from autocompress.candidate.bench import Bench
from autocompress.candidate.evaluate import feed_of
from autocompress.candidate.export import EXPORTERS, check, export_with, refuse_unexportable
from autocompress.candidate.measure import Effort, measure, timer
from autocompress.candidate.plans import StoredPlans
from autocompress.candidate.room import Room
from autocompress.candidate.supervisor import Supervisor
from autocompress.candidate.survey import survey
from autocompress.data import Split, as_held, check_split, input_names, map_inputs, open_split, overlap, probe, spread
from autocompress.errors import CandidateFailed, UsageError
from autocompress.plugin.contract import Applicable, Context, Feed, Refusal, Runtime
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Step
from autocompress.run.folder import RunFolder
from autocompress.run.store import Store, copy_file, replacing
from autocompress.task import Task, fingerprint

FASTER = Effort(seconds=1.0, blocks=12, width=0.03)  # to choose between two exporters
TIMED_FEEDS = 4


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


@dataclass(frozen=True)
class Groundwork:
    """What a search can begin with: plain data, sent between processes."""

    fingerprint: str
    applicable: tuple[Applicable, ...]
    refused: tuple[Refusal, ...]
    exporter: str
    export_note: str  # which one, and why


@dataclass(frozen=True)
class Prepared:
    """A task that structures can be gated on. exported: the reference is a new file, of which nothing was measured."""

    read: Read
    bench: Bench
    groundwork: Groundwork
    exported: bool


def prepare(
    task: Task,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    *,
    seed: int = 0,
    supervisor: Supervisor | None = None,
    room: Room | None = None,
    known: Groundwork | None = None,
    only: Collection[str] | None = None,
    scored: int | None = None,
) -> Prepared:
    """Read and export a task. Raises UsageError for data or a model that no search could use.

    room: the way in, when other processes compute too. known: what another process found; its reference file is kept,
    and its strategies are where it says any. only: the strategies of the search space; others are not asked. scored:
    score on at most so many validation examples.
    """
    supervisor = supervisor or Supervisor()
    runtime = plugins.runtime(profile.runtime)
    store = Store(folder.stored, supervisor.note)
    with supervisor.during("open", "read the data"):
        read = read_task(task, profile, runtime, folder.reference, seed)
    val = read.splits["val"]
    if known is not None and known.fingerprint != read.fingerprint:  # before anything of it is written over
        raise UsageError(
            f"{folder.root} holds a search of another model, data or task file ({known.fingerprint} then, "
            f"{read.fingerprint} now): give another --out, or the task {folder.root} was made with"
        )
    exported = known is None or not folder.reference.exists()
    if known is None or exported:
        exporter, export_note = _export_reference(read.context, val, runtime, folder, supervisor)
    else:
        exporter, export_note = known.exporter, known.export_note
    if known is not None and known.applicable:
        applicable, refused = known.applicable, known.refused
    else:
        applicable, refused = survey(read.context, plugins, only, supervisor)
    feeds = [feed_of(i, input_names(i)) for i in profile_inputs(val, profile.batch, TIMED_FEEDS)]
    bench = Bench(
        task=task,
        profile=profile,
        plugins=plugins,
        folder=folder,
        store=store,
        context=read.context,
        val=val if scored is None else _sample(val, scored),
        test=read.splits.get("test"),
        exporter=exporter,
        fingerprint=read.fingerprint,
        feeds=feeds,
        reference=timer(runtime, runtime.open(folder.reference, profile), feeds),
        room=room or Room(folder.root),
        supervisor=supervisor,
        plans=StoredPlans(store, read.fingerprint, seed, plugins),
        variants=tuple(
            (Step.of(a.name, **params), 1.0)
            for a in applicable
            if (a.size_only is None if only is None else a.name in only)
            for params in a.variants
        ),
    )
    return Prepared(read, bench, Groundwork(read.fingerprint, applicable, refused, exporter, export_note), exported)


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

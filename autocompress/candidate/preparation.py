"""Before the reference is scored: read and check the data, export the reference and ask every strategy whether it
applies. What comes of it can gate structures; which exporter is the better one, and which graph variants score well, is
found out after that.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autocompress.candidate.export import EXPORTERS, beginning_with, branching, export_right, unexportable
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.plans import StoredPlans
from autocompress.candidate.survey import survey
from autocompress.data import (
    Split,
    as_held,
    check_split,
    feed_of,
    input_names,
    map_inputs,
    open_split,
    overlap,
    probe,
    profile_inputs,
    spread,
)
from autocompress.errors import CandidateFailed, UsageError
from autocompress.measure import Effort, MachineLock, timer
from autocompress.plugin.contract import Applicable, Context, Feed, Refusal, Runtime, Stage, stages_of
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Step
from autocompress.storage.atomic import copy_file
from autocompress.storage.folder import RunFolder
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor
from autocompress.task import Task, fingerprint

FASTER = Effort(seconds=1.0, blocks=12, width=0.03)  # to choose between two exporters
CLEARLY = 0.97  # of the latency of the first exporter's file, which is the quicker one to write for every candidate
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
class Preparation:
    """What a search can begin with: plain data, sent between processes."""

    fingerprint: str
    applicable: tuple[Applicable, ...]
    refused: tuple[Refusal, ...]
    exporter: str
    export_note: str  # which one, and why


@dataclass(frozen=True)
class Prepared:
    """A task that structures can be gated on. exported: the reference is a new file, of which nothing was measured.
    only: the strategies that were asked, where not all were.
    """

    read: Read
    opened: OpenTask
    preparation: Preparation
    exported: bool
    only: Collection[str] | None

    def noting(self, export_note: str) -> "Prepared":
        """The same, and why its exporter is used."""
        return replace(self, preparation=replace(self.preparation, export_note=export_note))


def prepare(
    task: Task,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    *,
    seed: int = 0,
    supervisor: Supervisor | None = None,
    lock: MachineLock | None = None,
    known: Preparation | None = None,
    only: Collection[str] | None = None,
    score_on: int | None = None,
) -> Prepared:
    """Read and export a task. Raises UsageError for data or a model that no search could use.

    lock: the way in, when other processes compute too. known: what another process found; its reference file is kept,
    and its strategies are where it says any. only: the strategies of the search space; others are not asked. score_on:
    at most so many validation examples.
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
        first = known.exporter if known is not None else EXPORTERS[0]
        exporter, export_note = _export_reference(first, read.context, val, runtime, folder.reference, supervisor)
    else:
        exporter, export_note = known.exporter, known.export_note
    if known is not None and known.applicable:
        applicable, refused = known.applicable, known.refused
    else:
        context = read.context.for_timing() if exported else read.context  # of a known file nothing is asked again
        applicable, refused = survey(context, plugins, only, supervisor)
    feeds = [feed_of(i, input_names(i)) for i in profile_inputs(val, profile.batch, TIMED_FEEDS)]
    opened = OpenTask(
        task=task,
        profile=profile,
        plugins=plugins,
        folder=folder,
        store=store,
        context=read.context,
        val=val if score_on is None else _sample(val, score_on),
        test=read.splits.get("test"),
        exporter=exporter,
        fingerprint=read.fingerprint,
        feeds=feeds,
        reference=timer(runtime, runtime.open(folder.reference, profile), feeds),
        lock=lock or MachineLock(folder.root),
        supervisor=supervisor,
        plans=StoredPlans(store, read.fingerprint, seed, plugins),
        variants=_variants(applicable, only),
    )
    ground = Preparation(read.fingerprint, applicable, refused, exporter, export_note)
    return Prepared(read, opened, ground, exported, only)


def _variants(applicable: Sequence[Applicable], only: Collection[str] | None) -> tuple[tuple[Step, float], ...]:
    """Every graph variant of the strategies in use, none of them timed."""
    return tuple(
        (Step.of(a.name, **params), 1.0)
        for a in applicable
        if (a.size_only is None if only is None else a.name in only)
        for params in a.variants
    )


def _export_reference(
    first: str, context: Context, val: Split, runtime: Runtime, path: Path, supervisor: Supervisor
) -> tuple[str, str]:
    """Export the reference by an exporter, or by the other one if that gives no right file: which one, and why. Raises
    UsageError when neither does.
    """
    causes: dict[str, str] = {}
    for exporter in beginning_with(first):
        try:
            _export(exporter, context, val, runtime, path, supervisor)
            return exporter, f"by {exporter}" + "".join(f"; {other} failed: {why}" for other, why in causes.items())
        except CandidateFailed as error:
            causes[exporter] = error.reason
    raise unexportable(causes)


def _export(exporter: str, context: Context, val: Split, runtime: Runtime, path: Path, supervisor: Supervisor) -> None:
    """Write the reference as ``path``. Raises CandidateFailed when it cannot be exported, or the file is not right."""
    inputs = list(profile_inputs(val, context.profile.batch, TIMED_FEEDS))
    with supervisor.during("export", f"export the reference ({exporter})"):
        export_right(exporter, context.model, inputs, path, lambda file: runtime.open(file, context.profile))


def by_the_faster_exporter(prepared: Prepared) -> Prepared:
    """Export the reference by the other exporter too, and go on from its file where that is clearly faster. It takes
    ten times as long as the first one, so what is gated before does not wait for it. Raises UsageError when it finds
    that the model cannot be held by a graph.
    """
    opened, (first, other) = prepared.opened, EXPORTERS
    if prepared.preparation.exporter != first:
        return prepared
    path = opened.folder.scratch / f"reference-{other}.onnx"
    try:
        _export(other, opened.context, prepared.read.splits["val"], opened.runtime, path, opened.supervisor)
    except CandidateFailed as error:
        if refusal := branching(error.reason):
            raise refusal from error
        return prepared.noting(f"by {first}; {other} failed: {error.reason}")
    latency = opened.time(path, FASTER)
    note = f"the file of {other} takes {latency.ratio:.2f}x the time of {first}'s"
    if latency.ratio_high >= CLEARLY:
        return prepared.noting(f"by {first}; {note}")
    copy_file(path, opened.folder.reference)
    reference = timer(opened.runtime, opened.open(opened.folder.reference), opened.feeds)
    ground = replace(prepared.preparation, exporter=other, export_note=f"by {other}; {note}")
    return replace(prepared, opened=replace(opened, exporter=other, reference=reference), preparation=ground)


def asked_again(prepared: Prepared) -> Prepared:
    """Ask the strategies with a graph part what they offer for the file that the reference is now, with all examples
    and where scores count too. What the others offer depends on none of these.
    """
    opened, ground = prepared.opened, prepared.preparation
    in_use = opened.plugins.strategies if prepared.only is None else prepared.only
    graph = {name for name in in_use if Stage.GRAPH in stages_of(opened.plugins.strategy(name))}
    applicable, refused = survey(opened.context, opened.plugins, graph, opened.supervisor)
    applicable += tuple(a for a in ground.applicable if a.name not in graph)
    refused += tuple(r for r in ground.refused if r.strategy not in graph)
    ground = replace(
        ground,
        applicable=tuple(sorted(applicable, key=lambda a: a.name)),
        refused=tuple(sorted(refused, key=lambda r: r.strategy)),
    )
    opened = replace(opened, variants=_variants(ground.applicable, prepared.only))
    return replace(prepared, opened=opened, preparation=ground)


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

"""Before the reference is scored: read and check the data, export the reference and ask every strategy whether it
applies. What comes of it can gate structures; which exporter is the better one, and which graph variants score well, is
found out after that.
"""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from autocompress.candidate.arithmetic import Arithmetic, fastest_arithmetic
from autocompress.candidate.export import EXPORTERS
from autocompress.candidate.machine_students import Members, machine_members, read_members, with_members
from autocompress.candidate.make import file_of
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.parallel_branches import merged_convolutions
from autocompress.candidate.plans import StoredPlans
from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.reading import commonest_class, read_task
from autocompress.candidate.reference import first_reference
from autocompress.candidate.request import ModelFile
from autocompress.candidate.survey import survey
from autocompress.candidate.versions import versions
from autocompress.data import Reading, ScoredSet, feed_of, feeds_to_store, padded, profile_inputs
from autocompress.errors import CandidateFailed, DataError, UsageError, one_line
from autocompress.fingerprint import differences_of
from autocompress.machine.cores import cores
from autocompress.measure import MachineLock, call_overhead_ms
from autocompress.plugin.contract import Applicable, Refusal
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, Value
from autocompress.storage.folder import RunFolder
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor
from autocompress.task import Inputs, Task

SPEED_BATCH = 64
TIMED_FEEDS = 4
CALLS_TO_SCORE = 8  # of the reference at most, the quickest of which says how long scoring takes
ROUNDED_TO = 100  # examples
FEWEST_SCORED = 500  # examples, whatever they take: a share of right answers is known within 4 points


@dataclass(frozen=True)
class Preparation:
    """What a search can begin with, and all it has to know of the task's data: plain data, sent between processes.

    exporter, export_note: which one wrote the reference file, and why. reference: that file. exported: it is new, and
    nothing was measured of it. feeds: store key of the inputs that files are timed with. chance: the score of always
    answering the commonest class, where the metric is the share of right answers and the data are at hand.
    overhead_ms: of a call of a file that computes nothing; 0 where the runtime cannot run one. batch_size: that the
    user's loader trains with; None where a recipe is free to choose. scored_on, tested_on: how many validation and
    test examples there is time to read; None: all. stream_head: examples that are held of a training stream; 0: there
    is none. parts: of the fingerprint, by name. maximize: whether higher values of the metric are better. labels: names
    of the classes, and learning_rates: peaks to choose from, where the task gives any. students: its
    ``machine_members``.
    """

    name: str
    fingerprint: str
    metric: str
    chance: float | None
    train_examples: int
    val_examples: int
    test_examples: int
    applicable: tuple[Applicable, ...]
    refused: tuple[Refusal, ...]
    exporter: str
    export_note: str
    exported: bool
    reference: ModelFile
    feeds: str
    warnings: tuple[str, ...]
    versions: dict[str, str]
    overhead_ms: float = 0.0
    batch_size: int | None = None
    scored_on: int | None = None
    tested_on: int | None = None
    stream_head: int = 0
    parts: Mapping[str, str] = field(default_factory=dict)
    maximize: bool = True
    labels: tuple[str, ...] = ()
    learning_rates: tuple[float, ...] = ()
    students: Members | None = None

    @property
    def training(self) -> dict[str, tuple[Value, ...]]:
        """The choices of training that the user has made, by their names."""
        size = () if self.batch_size is None else (self.batch_size,)
        return {name: made for name, made in (("batch_size", size), ("lr", self.learning_rates)) if made}


@dataclass(frozen=True)
class EarlierPreparation:
    """What is known of a task that an earlier search prepared: its reference file is kept, its strategies are asked
    anew. students: those that a search keeps; None: not known, as in the record of an earlier version.
    """

    fingerprint: str
    exporter: str
    export_note: str
    scored_on: int | None = None
    tested_on: int | None = None
    stream_head: int | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    students: Members | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "EarlierPreparation":
        students = value.get("students")
        return cls(**{**value, "students": None if students is None else read_members(students)})


KnownTask = Preparation | EarlierPreparation


def prepare(
    task: Task,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    *,
    seed: int = 0,
    supervisor: Supervisor | None = None,
    lock: MachineLock | None = None,
    known: KnownTask | None = None,
    only: Collection[str] | None = None,
    score_on: int | None = None,
    policy: TrainingPolicy = TrainingPolicy(),
) -> tuple[OpenTask, Preparation]:
    """Read and export a task. Raises UsageError for data or a model that no search could use.

    lock: held while other processes compute too. known: what another process found; its reference file is kept, and
    when it is of the same search, what its strategies answered. only: the strategies of the search space; others are
    not asked. score_on: at most so many validation examples.
    """
    supervisor = supervisor or Supervisor()
    runtime = plugins.runtime_of(profile)
    store = Store(folder.stored, supervisor.note)
    if known is not None:
        task = with_members(task, known.students, folder.root)
    with supervisor.during("open", "read the data"):
        head = None if known is None else known.stream_head
        reading = Reading(folder.stored, supervisor.note, supervisor.check, stream_head=head)
        read = read_task(task, profile, runtime, folder.reference, seed, reading)
    val = read.splits["val"]
    if known is not None and known.fingerprint != read.fingerprint:  # before anything of it is written over
        raise UsageError(
            f"{folder.root} holds a search of another task: "
            f"{differences_of(known.parts, read.parts) or 'what changes its results differs'}; "
            f"give another --out, or the task {folder.root} was made with"
        )
    test = read.splits.get("test")
    scored = ScoredSet(task, val, read.context.layout)  # cut below, alike in every process
    scored.check_groups()
    inputs = list(profile_inputs(val, profile, read.context.layout, TIMED_FEEDS))
    opened = OpenTask(
        task=task,
        profile=profile,
        plugins=plugins,
        folder=folder,
        store=store,
        context=read.context,
        val=scored,
        test=scored.on(test) if test else None,
        fingerprint=read.fingerprint,
        feeds=[feed_of(i) for i in inputs],
        lock=lock or MachineLock(folder.root),
        supervisor=supervisor,
        plans=StoredPlans(store, read.fingerprint, seed, plugins),
        policy=policy,
    )
    exported = known is None or not folder.reference.exists()
    if known is None or exported:
        first = known.exporter if known is not None else EXPORTERS[0]
        exporter, export_note = first_reference(first, opened)
    else:
        exporter, export_note = known.exporter, known.export_note
    warnings = _what_is_merged(opened)
    scored_on: int | None = None
    tested_on: int | None = None
    if known is not None:
        scored_on, tested_on = known.scored_on, known.tested_on
    elif score_on is None:
        scored_on, tested_on = _affordable(opened)
    if score_on is not None:
        opened = replace(opened, val=opened.val.sampled(score_on))
    else:
        tested = opened.test and _part(opened.test, tested_on, warnings)
        opened = replace(opened, val=_part(opened.val, scored_on, warnings), test=tested)
    if isinstance(known, Preparation):
        applicable, refused = known.applicable, known.refused
    else:
        context = read.context.for_timing() if exported else read.context  # of a known file nothing is asked again
        applicable, refused = survey(context, plugins, only, supervisor)
    return opened, Preparation(
        name=task.name,
        fingerprint=read.fingerprint,
        metric=task.metric_name,
        maximize=scored.maximize,
        chance=commonest_class(task, val, read.context.layout),
        train_examples=len(read.splits["train"]),
        val_examples=len(val) if scored_on is None else scored_on,
        test_examples=len(opened.test) if opened.test else 0,
        applicable=applicable,
        refused=refused,
        exporter=exporter,
        export_note=export_note,
        exported=exported,
        reference=file_of(opened, Recipe(), folder.reference),
        feeds=_kept_feeds(opened, inputs),
        warnings=(*read.warnings, *warnings),
        versions=versions(runtime, opened.profile),
        overhead_ms=_overhead_ms(opened),
        batch_size=read.splits["train"].batch_size,
        scored_on=scored_on,
        tested_on=tested_on,
        stream_head=0 if read.splits["train"].stream is None else len(read.splits["train"]),
        parts=read.parts,
        labels=tuple(task.labels or ()),
        learning_rates=tuple(dict.fromkeys(map(float, task.learning_rates))),
        students=machine_members(task),
    )


def _what_is_merged(opened: OpenTask) -> list[str]:
    count = merged_convolutions(opened.folder.reference)
    if not count:
        return []
    return [
        f"parallel branches of one input are one convolution in each file ({count} of them), which computes the same; "
        "training keeps the branches"
    ]


def _affordable(opened: OpenTask) -> tuple[int | None, int | None]:
    """How many validation and test examples there is time to read and to score the reference on; None for all."""
    policy = opened.policy
    scoring_s = 0.0 if policy.scoring_s is None else _scoring_s(opened, policy.scoring_s)

    def most(of: ScoredSet | None) -> int | None:
        if of is None:
            return None
        limits = [(of.split.seconds_each, policy.reading_s), (scoring_s, policy.scoring_s or 0.0)]
        count = min((limit_s / each_s for each_s, limit_s in limits if each_s > 0), default=math.inf)
        rounded = max(FEWEST_SCORED, int(min(count, len(of)) // ROUNDED_TO * ROUNDED_TO))
        return rounded if count < len(of) and rounded < len(of) else None

    return most(opened.val), most(opened.test)


def _scoring_s(opened: OpenTask, limit_s: float) -> float:
    """Seconds that the reference takes for an example, with as many calls at once as there are when files are scored.
    limit_s: seconds after which no further call is begun.
    """
    profile, batch = opened.profile, opened.profile.batch
    inputs = padded(opened.val.split.take(torch.arange(min(batch, len(opened.val)))), batch)
    at_once = 1 if profile.on_gpu else max(1, min(torch.get_num_threads(), cores() // profile.threads))
    taken: list[float] = []
    with opened.supervisor.during("open", "time how long scoring takes"):
        session, feed = opened.open(opened.folder.reference), feed_of(inputs)
        while len(taken) < CALLS_TO_SCORE and sum(taken) < limit_s:
            opened.supervisor.check()
            began = time.monotonic()
            session.run(feed)
            taken.append(time.monotonic() - began)
    return min(taken) / batch / at_once


def _part(of: ScoredSet, count: int | None, warnings: list[str]) -> ScoredSet:
    """The examples that files are scored on, which is said where it is not all of them."""
    if count is None or count >= len(of):
        return of
    warnings.append(
        f"files are scored on {count:,} of the {len(of):,} examples of the {of.split.title} split, spread over it: "
        "reading or scoring all takes long, and a new search with more --minutes takes more of them"
    )
    return of.sampled(count)


def _overhead_ms(opened: OpenTask) -> float:
    with opened.supervisor.during("measure", "measure"):
        try:
            return call_overhead_ms(opened.runtime, opened.profile)
        except CandidateFailed:
            return 0.0


def _kept_feeds(opened: OpenTask, inputs: Sequence[Inputs]) -> str:
    """Store key of the inputs that files are timed with, for whoever times them."""
    shapes = list(filter(None, opened.profile.sizes))
    key = opened.store.key("feeds", opened.fingerprint, opened.profile.batch, *shapes)
    if not opened.store.path(key).exists():
        opened.store.save(key, feeds_to_store(inputs))
    return key


def time_training(opened: OpenTask) -> Arithmetic:
    """How a training step is computed fastest here. Raises UsageError when one fails."""
    task, train = opened.task, opened.context.train
    batch = train.take(torch.arange(min(SPEED_BATCH, len(train))))
    with opened.supervisor.during("open", "time a training step"), opened.lock.measuring():
        try:
            model = task.copy_of_model()
            return fastest_arithmetic(model, task.loss_fn, batch, opened.policy)
        except DataError:
            raise
        except Exception as error:
            cause = f"{type(error).__name__}: {one_line(error, 200)}"
            raise UsageError(
                f"a training step of the reference fails: {cause}; check Task.loss against the model's outputs"
            ) from error

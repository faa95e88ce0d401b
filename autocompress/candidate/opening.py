"""Before any candidate is trained: choose the exporter and how training computes, evaluate the reference."""

import math
import os
import platform
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import onnx
import optuna
import torch

from autocompress.candidate.arithmetic import Arithmetic, fastest_arithmetic
from autocompress.candidate.open_task import OpenTask, Trainer
from autocompress.candidate.pipeline import evaluate_reference
from autocompress.candidate.preparation import Preparation, Prepared, asked_again, by_the_faster_exporter
from autocompress.candidate.stream import TaughtBlocks, TrainStream
from autocompress.candidate.teacher import Teacher
from autocompress.data import Split
from autocompress.errors import CandidateFailed, UsageError, one_line
from autocompress.evaluation import Evaluation, Outcome
from autocompress.measure import Effort
from autocompress.plugin.contract import Applicable, Refusal, Runtime
from autocompress.recipe import Step
from autocompress.task import Task

SPEED_BATCH = 64
REPEATS = 3  # more measurements of a reference that was disturbed, at most
ONCE = Effort(attempts=1)
LEAST_SCALE, MOST_SCALE = 0.02, 10.0  # of a metric whose hundredths mean something


@dataclass(frozen=True)
class Opening:
    """What the search needs to know of the task: plain data, sent between processes.

    arithmetic: how training computes. reference_family: the reference's own graph variants.
    """

    name: str
    preparation: Preparation
    metric: str
    train_examples: int
    val_examples: int
    test_examples: int
    reference: Evaluation
    reference_family: Outcome
    warnings: tuple[str, ...]
    arithmetic: Arithmetic
    versions: dict[str, str]

    @property
    def applicable(self) -> tuple[Applicable, ...]:
        return self.preparation.applicable

    @property
    def refused(self) -> tuple[Refusal, ...]:
        return self.preparation.refused


def complete(prepared: Prepared, known: Opening | None = None) -> tuple[OpenTask, Opening]:
    """Make ready for training, and evaluate the reference. Raises UsageError when it cannot be trained or evaluated.

    known: what another process found; what it measured is kept unless the reference was exported anew.
    """
    if prepared.exported:
        known = None
    if known is None:
        prepared = asked_again(by_the_faster_exporter(prepared))
    read, opened, ground = prepared.read, prepared.opened, prepared.preparation
    task, train, val = opened.task, read.splits["train"], read.splits["val"]
    if known is not None and known.arithmetic.available():
        arithmetic = known.arithmetic
    else:
        with opened.supervisor.during("open", "time a training step"), opened.lock.measuring():
            arithmetic = _arithmetic(task, train)
    seed = opened.context.seed
    taught = TaughtBlocks(opened.store, read.fingerprint, seed, str(arithmetic))
    stream = TrainStream(task, train, Teacher(task.copy_of_model(), arithmetic), seed, taught)
    opened = replace(opened, trainer=Trainer(stream, arithmetic))
    reference, family = (known.reference, known.reference_family) if known else _measure_reference(opened)
    opened = replace(opened, variants=_by_speed(opened, family))
    return opened, Opening(
        name=task.name,
        preparation=ground,
        metric=task.metric_name,
        train_examples=len(train),
        val_examples=len(val),
        test_examples=len(opened.test) if opened.test else 0,
        reference=reference,
        reference_family=family,
        warnings=(*read.warnings, *_chance(task, val, reference), *_scale(task, reference), *_disturbed(reference)),
        arithmetic=arithmetic,
        versions={**versions(opened.runtime), "exporter": ground.export_note},
    )


def _measure_reference(opened: OpenTask) -> tuple[Evaluation, Outcome]:
    """The unchanged model as a family: its float file is the reference, its graph variants are the first candidates."""
    try:
        family = evaluate_reference(opened)
    except CandidateFailed as error:
        raise UsageError(f"the reference cannot be evaluated: {error.reason}") from error
    own = next((e for e in family.evaluations if not e.recipe.changes), None)
    if own is None:
        raise UsageError(f"the reference cannot be evaluated: {family.failed[0][2]}")
    exported = opened.folder.root / own.artifact
    exported.replace(opened.folder.reference)
    exported.with_name("recipe.toml").replace(opened.folder.reference.with_name("recipe.toml"))
    with suppress(OSError):  # something else lies there
        exported.parent.rmdir()
    found = [own.latency]
    while not found[-1].reliable and len(found) <= REPEATS:
        found.append(opened.time(opened.folder.reference, ONCE))
    # What disturbs a measurement makes nothing faster. Against itself the ratio is one by definition.
    best = found[-1] if found[-1].reliable else min(found, key=lambda latency: latency.statistic)
    latency = replace(best, ratio=1.0, ratio_low=1.0, ratio_high=1.0)
    reference = replace(own, id="reference", latency=latency, artifact=opened.folder.relative(opened.folder.reference))
    return reference, replace(family, evaluations=tuple(e for e in family.evaluations if e.recipe.changes))


def _by_speed(opened: OpenTask, family: Outcome) -> tuple[tuple[Step, float], ...]:
    """Graph variants with their ratio on the reference, fastest first. One that was slower there is kept: shapes may
    change that.
    """
    ratios = {e.recipe.variant: e.latency.ratio for e in family.evaluations}
    ratios |= {s.recipe.variant: s.ratio for s in family.slower}
    return tuple(sorted(((step, ratios.get(step, math.inf)) for step, _ in opened.variants), key=lambda pair: pair[1]))


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


def _disturbed(reference: Evaluation) -> list[str]:
    if reference.latency.reliable:
        return []
    return [
        "other work on this machine disturbed the measurement of the reference: its milliseconds may be too many, and "
        "what a budget in milliseconds asks for too fast"
    ]


def versions(runtime: Runtime) -> dict[str, str]:
    """What made the numbers: versions, the processor, its cores."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.processor() or "unknown",
    )
    return {
        "autocompress": metadata.version("autocompress"),
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

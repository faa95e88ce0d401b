"""``apply``: a model made again from its recipe, as files or as a module."""

import asyncio
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.export import export
from autocompress.candidate.make import rewrite
from autocompress.candidate.reading import Read, read_task
from autocompress.candidate.request import TrainRequest
from autocompress.candidate.structure import build
from autocompress.candidate.weights import load_weights
from autocompress.compute.in_process import OpenedInProcess, opened_in_process
from autocompress.data import feed_of, profile_inputs
from autocompress.errors import AutocompressError, CandidateFailed, UsageError
from autocompress.evaluation import Evaluation
from autocompress.explore.opening.reference import open_task
from autocompress.fingerprint import differences_of
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.plugin.task_targets import task_of
from autocompress.profile import HardwareProfile, load_profile
from autocompress.recipe import TRAIN, RecipeFile, Step
from autocompress.storage.atomic import copy_file, no_space, replacing, write_text
from autocompress.storage.delivery import deliver, weights_of
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import MODEL, RECIPE, WEIGHTS
from autocompress.storage.onnx_file import read_onnx
from autocompress.storage.ownership import APPLIED, own_or_free, put_mark, refuse_strangers
from autocompress.storage.paths import inside
from autocompress.storage.recovery import Say, recover_recipe
from autocompress.storage.store import Store
from autocompress.supervisor import tell_nobody
from autocompress.task import Task

COMPARED_BATCHES = 32  # of validation inputs, on which they are compared
SAME_OUTPUTS = 1e-4  # apply: between the model made again and the stored one


def load_model(recipe: str | Path, task: Task | str) -> nn.Module:
    """The PyTorch module of a ``recipe.toml``, in evaluation mode, with the weights that lie beside it: what its ONNX
    file was exported from, before any quantization of that. The structure is replayed on a copy of the task's model.

    task: the one that it was made for, or what it is called: ``"my_task.py:task"`` or
    ``"hf:MODEL --data DATA"``. Raises UsageError when the recipe was
    made for another one, names a strategy that is not installed, or its weights are missing or damaged.
    """
    path = Path(recipe)
    recover_recipe(path, tell_nobody)
    stored = RecipeFile.read(path)
    profile, plugins = _profile_of(stored), load_plugins()
    _refuse_missing(plugins, stored.recipe.steps)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as scratch:
        opened = task_of(task, plugins) if isinstance(task, str) else task
        read = _read(path, stored, opened, profile, plugins, Path(scratch) / "reference.onnx")
        return _with_weights(path, stored, read, plugins)


def apply_recipe(recipe: Path, target: str, out: Path | None, redo: bool, say: Say = tell_nobody) -> str:
    """Make the model of a ``recipe.toml`` again and return a line that says where it is and how near it comes to the
    stored one. Raises UsageError, before anything is made, when ``out`` holds what is not ours, or the recipe names
    weights that are outside its folder.

    say: told when the recipe's own run was made whole before.
    """
    recover_recipe(recipe, say)
    stored = RecipeFile.read(recipe)
    weights = None if stored.weights is None else weights_of(recipe, stored.weights)
    beside = inside(recipe.parent, recipe.parent, MODEL, recipe)
    if beside.exists():
        read_onnx(beside)
    folder = out or own_or_free(Path("applied") / stored.recipe.id, APPLIED)
    refuse_strangers(folder, APPLIED)
    profile, plugins = _profile_of(stored), load_plugins()
    task = task_of(target, plugins)
    needed = _refuse_missing(plugins, (*stored.recipe.steps, *filter(None, [stored.recipe.variant])))
    with tempfile.TemporaryDirectory(prefix="autocompress-") as scratch:
        if redo:
            run = RunFolder(Path(scratch))
            here = opened_in_process(task, profile, plugins, run, needed, seed=stored.seed)
            made = asyncio.run(_trained_anew(here, run, profile, stored, needed))
            _mark(folder)
            deliver(run.root / made.artifact, folder)
            return (
                f"{folder / MODEL} {'trained' if stored.epochs else 'made'} anew from {stored.recipe}: validation "
                f"{made.score.shown(here.prepared.maximize).val:.4f} (stored: {stored.facts.get('val')})"
            )
        reference = Path(scratch) / "reference.onnx"
        read = _read(recipe, stored, task, profile, plugins, reference)
        inputs = next(profile_inputs(read.splits["val"], profile, read.context.layout, 1))
        export(read.context.model, read.context.layout, inputs, reference, stored.exporter, profile.opset)
        model = _with_weights(recipe, stored, read, plugins)
        kept = replace(stored, weights=None if weights is None else WEIGHTS)
        source = Path(scratch) / "float.onnx"
        export(model, read.context.layout, inputs, source, stored.exporter, profile.opset)
        _mark(folder)
        with replacing(folder / MODEL) as temporary:
            if stored.recipe.variant is None:
                shutil.copyfile(source, temporary)
            else:
                context = replace(read.context, learned=stored.learned)
                try:
                    rewrite(plugins, stored.recipe.variant, source, temporary, context)
                except CandidateFailed as error:
                    raise AutocompressError(
                        f"{stored.recipe} cannot be made here: {error.strategy}: {error.reason}; make it on a machine "
                        "like the one of the run, or search again on this one"
                    ) from error
        if weights is not None:
            copy_file(weights, folder / WEIGHTS)
        write_text(folder / RECIPE, kept.to_toml())
        line = f"{folder / MODEL} made from {stored.recipe}"
        if not beside.exists():
            return line
        worst = _difference(read, profile, beside, folder / MODEL)
        if worst > SAME_OUTPUTS:
            raise AutocompressError(
                f"{folder / MODEL} was made, but its outputs differ from {beside} by {worst:.2g} "
                f"(allowed {SAME_OUTPUTS:g}): the versions of torch or onnxruntime may not be those of the run"
            )
        return f"{line}; its outputs differ from {beside} by at most {worst:.2g}"


def _refuse_missing(plugins: PluginSet, steps: Sequence[Step]) -> list[str]:
    """The strategies of the steps. Raises UsageError when one is not installed, before anything is made."""
    return [plugins.strategy(step.strategy).name for step in steps if step.strategy != TRAIN]


def _read(
    recipe: Path, stored: RecipeFile, task: Task, profile: HardwareProfile, plugins: PluginSet, reference: Path
) -> Read:
    """The task of a recipe. reference: where its ONNX file would lie. Raises UsageError when it is another one."""
    read = read_task(task, profile, plugins.runtime_of(profile), reference, stored.seed)
    if stored.parts and read.fingerprint != stored.fingerprint:  # earlier recipes cannot be compared
        found = differences_of(stored.parts, read.parts)
        raise UsageError(f"{recipe} was made for another task ({stored.task}, {found}): give the task it was made for")
    return read


def _with_weights(recipe: Path, stored: RecipeFile, read: Read, plugins: PluginSet) -> nn.Module:
    """The module of a recipe. Raises UsageError when its structure or its weights cannot be had."""
    try:
        model, _ = build(stored.recipe, read.context, plugins, stored.plans)
    except CandidateFailed as error:
        raise UsageError(f"{recipe} cannot be made here: {error.strategy}: {error.reason}") from error
    if stored.weights is None:
        return model
    weights = weights_of(recipe, stored.weights)
    if not weights.exists():
        raise UsageError(
            f"the weights {weights} are missing: `autocompress apply {recipe} TASK --redo` makes them anew"
        )
    try:
        load_weights(Store(weights.parent), model, weights.stem)
    except CandidateFailed as error:
        raise UsageError(f"{error.reason}: `autocompress apply {recipe} TASK --redo` makes them anew") from error
    return model


def _profile_of(stored: RecipeFile) -> HardwareProfile:
    """The recorded one. The command that timed files for it, if any, is not run because a file says so."""
    if not stored.hardware:
        return load_profile(stored.profile)
    return HardwareProfile.model_validate({**stored.hardware, "device": ""})


async def _trained_anew(
    here: OpenedInProcess, run: RunFolder, profile: HardwareProfile, stored: RecipeFile, needed: Sequence[str]
) -> Evaluation:
    """Plan and train anew, with the stored length of training."""
    opening, pipeline = await open_task(here.operations, here.prepared, run, profile, stored.seed, needed)
    examples = round(stored.epochs * opening.prepared.train_examples)
    arithmetic = await here.operations.time_training(limit_s=math.inf) if examples else Arithmetic()
    request = TrainRequest(stored.recipe.family, arithmetic, examples=examples, calibration=stored.calibration)
    outcome = await pipeline.evaluate(request, limit_s=math.inf)
    made = next((e for e in outcome.evaluations if e.recipe == stored.recipe), None)
    if made is None:
        causes = [reason for _, _, reason in outcome.failed] + [s.reason for s in outcome.slower]
        causes = causes or [f"{stored.recipe.variant} is not among what that strategy now offers for this task"]
        raise AutocompressError(f"the recipe could not be made again: {'; '.join(causes)}")
    return made


def _mark(folder: Path) -> None:
    """Say that it is ours before the first file is written."""
    try:
        put_mark(folder, APPLIED)
    except OSError as error:
        raise no_space(folder / APPLIED, error) from error


def _difference(read: Read, profile: HardwareProfile, one: Path, other: Path) -> float:
    """Largest difference of two files' outputs over some validation examples."""
    sessions = [read.context.runtime.open(path, profile) for path in (one, other)]
    worst = 0.0
    for inputs in profile_inputs(read.splits["val"], profile, read.context.layout, COMPARED_BATCHES):
        for own, others in zip(*(s.run(feed_of(inputs, s.input_names)) for s in sessions), strict=True):
            apart = np.abs(np.asarray(own, dtype=np.float64) - np.asarray(others, dtype=np.float64))
            worst = max(worst, float(apart.max(initial=0.0)))
    return worst

"""A family's files: the structure with its weights, exported and checked, and the graph variants of that file."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import nn

from autocompress.candidate.count import count
from autocompress.candidate.cut_off import refuse_cut_off
from autocompress.candidate.export import export, export_checked, keep_to_opset
from autocompress.candidate.graph_digest import graph_digest
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import FamilyFiles, Made, MakeRequest, ModelFile, UntrainedFiles
from autocompress.candidate.structure import blamed_on, build
from autocompress.candidate.weights import load_weights
from autocompress.data import profile_inputs
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, GraphStrategy
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Plan, Recipe, Step
from autocompress.storage.atomic import replacing

CHECKED_BATCHES = 4  # of inputs on which an exported file is compared with its module


def make(opened: OpenTask, request: MakeRequest, model: nn.Module | None = None) -> Made:
    """Export a family and rewrite the file into each of its variants; a variant that fails costs itself alone. Raises
    CandidateFailed when there is no float file.

    model: the family's module with its weights, where it is at hand; it is built otherwise.
    """
    if request.source is not None:
        path = opened.folder.root / request.source.path
        plans = request.weights.plans if isinstance(request, FamilyFiles) else ()
        made = Made(request.source, request.exporter, plans, count(path, opened.feeds[0])[1])
    elif isinstance(request, FamilyFiles):
        made = _exported(opened, request, model)
    else:
        made = _exported_untrained(opened, request)
    return _rewritten(opened, request, made)


def _exported(opened: OpenTask, request: FamilyFiles, model: nn.Module | None) -> Made:
    weights, plans = request.weights, request.weights.plans
    if model is None:
        model, plans = built(opened, request.recipe, plans)
        if weights.checkpoint is not None:
            load_weights(opened.store, model, weights.checkpoint)
    opened.lock.give_way()
    target = _target(opened, request, None)
    with opened.supervisor.during("export", f"export: {request.recipe.techniques()}"):
        layout = opened.context.layout
        checked = list(profile_inputs(opened.val.split, opened.profile, layout, CHECKED_BATCHES))
        exporter = export_checked(model, layout, checked, target, request.exporter, opened.open, opened.profile.opset)
    return Made(file_of(opened, request.recipe, target), exporter, plans, count(target, opened.feeds[0])[1])


def _exported_untrained(opened: OpenTask, request: UntrainedFiles) -> Made:
    model, plans = built(opened, request.recipe, None)
    opened.lock.give_way()
    target = _target(opened, request, None)
    with opened.supervisor.during("export", f"export: {request.recipe.techniques()}"):
        inputs = next(profile_inputs(opened.val.split, opened.profile, opened.context.layout, 1))
        exporter = export(model, opened.context.layout, inputs, target, request.exporter, opened.profile.opset)
    return Made(file_of(opened, request.recipe, target), exporter, plans, count(target, opened.feeds[0])[1])


def _rewritten(opened: OpenTask, request: MakeRequest, made: Made) -> Made:
    if isinstance(request, FamilyFiles):
        context = replace(opened.context, learned=request.weights.learned)
    else:
        context = opened.context.for_timing()
    source = opened.folder.root / made.source.path
    for variant in request.variants:
        opened.lock.give_way()
        recipe, target = request.recipe.rewritten(variant), _target(opened, request, variant)
        text = f"{variant.strategy}: {request.recipe.techniques()}"
        try:
            with opened.supervisor.during("graph", text), replacing(target) as temporary:
                rewrite(opened.plugins, variant, source, temporary, context)
            made = replace(made, files=(*made.files, file_of(opened, recipe, target)))
        except CandidateFailed as error:
            failure = (recipe, error.strategy or variant.strategy, error.reason)
            made = replace(made, failed=(*made.failed, failure))
    return made


def built(opened: OpenTask, recipe: Recipe, plans: Sequence[Plan] | None) -> tuple[nn.Module, tuple[Plan, ...]]:
    """A recipe's untrained structure, and the plans that made it."""
    with opened.supervisor.during("structure", f"structure: {recipe.techniques()}"):
        return build(recipe, opened.context, opened.plugins, plans, opened.plans)


def rewrite(plugins: PluginSet, variant: Step, source: Path, target: Path, context: Context) -> None:
    """Apply one graph variant. Raises CandidateFailed naming the strategy, also where its int8 file is to be scored and
    its outputs are cut off on the target.
    """
    strategy = plugins.strategy(variant.strategy)
    assert isinstance(strategy, GraphStrategy)
    with blamed_on(variant.strategy):
        strategy.apply(source, target, variant.values, context)
        keep_to_opset(target, context.profile.opset)
        if context.scored and strategy.precision == "int8":
            refuse_cut_off(target, source, context)


def _target(opened: OpenTask, request: MakeRequest, variant: Step | None) -> Path:
    """Where a file goes: into a folder of its own when it is kept, else where nobody looks for it."""
    recipe = request.recipe if variant is None else request.recipe.rewritten(variant)
    if isinstance(request, FamilyFiles):
        opened.folder.make_candidates()
        return opened.folder.candidate(f"{recipe.id}-{request.rung}")
    return opened.folder.scratch / f"{recipe.id}.onnx"


def file_of(opened: OpenTask, recipe: Recipe, path: Path) -> ModelFile:
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelFile(recipe, opened.folder.relative(path), content, graph_digest(path))


def discard(path: Path) -> None:
    """Remove a file that is not wanted any more, and its folder when nothing else is in it."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()

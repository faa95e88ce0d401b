"""A task opened in this process, for candidates without a search around them."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from autocompress.budget import Budget
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import TrainRequest
from autocompress.candidate.sensitivity import kept_in_torch
from autocompress.compute.in_process import opened_in_process
from autocompress.compute.local import LocalComputation
from autocompress.evaluation import Outcome
from autocompress.explore.opening.opening import Opening
from autocompress.explore.opening.reference import open_task
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, Step
from autocompress.storage.folder import RunFolder
from autocompress.task import Task

SCORED_BATCH = 250


@dataclass(frozen=True)
class OpenedHere:
    """computation: what computes on the open task."""

    opening: Opening
    pipeline: Pipeline
    computation: LocalComputation

    @property
    def task(self) -> OpenTask:
        return self.computation.opened

    def gate(self, recipe: Recipe, budget: Budget) -> Gate:
        return asyncio.run(self.pipeline.gate(recipe, budget, math.inf))

    def evaluate(self, request: TrainRequest, skip: Sequence[Step] = ()) -> Outcome:
        return asyncio.run(self.pipeline.evaluate(request, skip=skip, limit_s=math.inf))


def open_here(
    task: Task,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    only: Sequence[str] | None = None,
    seed: int = 0,
    *,
    compare_exporters: bool = True,
) -> OpenedHere:
    """only: the strategies in use; None for all that are installed."""
    folder.root.mkdir(parents=True, exist_ok=True)
    here = opened_in_process(task, profile, plugins, folder, only, seed=seed)
    opened = open_task(here.operations, here.prepared, folder, profile, seed, only, compare_exporters=compare_exporters)
    opening, pipeline = asyncio.run(opened)
    return OpenedHere(opening, pipeline, here.computation)


def module_score(opened: OpenTask, model: nn.Module) -> float:
    """The metric of a module itself, in evaluation mode, on the validation examples."""
    kept = kept_in_torch(model, opened.val)
    return math.nan if kept is None else opened.val.value(kept)

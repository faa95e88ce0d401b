"""What a user is told of the task before anything is searched."""

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autocompress import Task
from autocompress.compute.in_process import in_process
from autocompress.errors import CandidateFailed, UsageError
from autocompress.explore.opening.opening import EarlierOpening, Opening
from autocompress.explore.opening.reference import open_reference
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.pipeline.variants import untimed
from autocompress.plugin.contract import Context, GraphStrategy, Params
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Step
from autocompress.storage.folder import RunFolder

PROFILE = HardwareProfile(name="fake", runtime="fake")
FEW = ("prune_channels", "quantize_static")
WATCHED = (*FEW, "watches")


@pytest.fixture
def opened(open_here: Any, plugins: PluginSet, tmp_path: Path) -> Callable[..., Opening]:
    """``opened(task)``: by the quick exporter, unless both are compared."""

    def opened(task: Task, compare_exporters: bool = False) -> Opening:
        folder = RunFolder(tmp_path / "run")
        opening: Opening = open_here(task, PROFILE, plugins, folder, FEW, compare_exporters=compare_exporters).opening
        return opening

    return opened


@pytest.mark.parametrize(("times", "told"), [(1.0, False), (1e-4, True), (1e3, True)])
def test_a_metric_whose_hundredths_mean_nothing_is_told(
    times: float, told: bool, tiny_task: Task, opened: Callable[..., Opening]
):
    def metric(outputs: Tensor, targets: Tensor) -> float:
        return times * float((outputs.argmax(1) == targets).float().mean())

    warnings = opened(replace(tiny_task, metric=metric)).warnings
    assert any("scale Task.metric so that 0.01 is a difference that matters" in w for w in warnings) is told


def test_a_reference_that_learned_nothing_is_told(tiny_task: Task, opened: Callable[..., Opening]):
    inputs: Any = tiny_task.val[0]  # type: ignore[index]
    lopsided = torch.zeros(len(inputs), dtype=torch.int64)
    lopsided[:2] = 1
    warnings = opened(replace(tiny_task, val=(inputs, lopsided))).warnings
    assert any("no better than always answering the commonest class" in w for w in warnings)


def test_a_reference_that_was_timed_on_a_busy_machine_is_told(
    tiny_task: Task, opened: Callable[..., Opening], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = lambda reference, fastest: np.zeros(len(reference) - 1, bool)  # noqa: E731
    monkeypatch.setattr("autocompress.measure.statistics.quiet", nothing)
    opening = opened(tiny_task)
    assert not opening.reference.latency.quiet
    assert any("kept this machine busy while the reference was timed" in warning for warning in opening.warnings)


class Watches(GraphStrategy):
    """Notes which file of the reference it was asked about, and whether scores count. Offers another variant each time
    it is asked.
    """

    name = "watches"
    summary = "watches"

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bool]] = []

    def variants(self, context: Context) -> Sequence[Params]:
        self.asked.append((context.reference.read_bytes(), context.scored))
        return [{"asked": len(self.asked)}]

    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        raise CandidateFailed("only looking")


def test_the_faster_exporters_file_becomes_the_reference_and_graph_strategies_are_asked_about_it(
    tiny_task: Task, plugins: PluginSet, dynamo_is_faster: None, tmp_path: Path
):
    plugins.strategies["watches"] = watches = Watches()
    folder = RunFolder(tmp_path)
    operations = in_process(tiny_task, PROFILE, plugins, folder)
    prepared = asyncio.run(operations.prepare(None, WATCHED, limit_s=math.inf))
    traced = folder.reference.read_bytes()
    assert prepared.exporter == "torchscript", "what is gated before does not wait for the other one"
    first = Pipeline(operations, folder, PROFILE, 0, prepared, untimed(prepared.applicable, WATCHED))
    assert Step.of("watches", asked=1) in dict(first.ratios)
    opening = asyncio.run(open_reference(first, None, WATCHED, limit_s=math.inf))
    assert opening.prepared.exporter == "dynamo"
    assert opening.prepared.export_note == "by dynamo; the file of dynamo takes 0.50x the time of torchscript's"
    assert watches.asked == [(traced, False), (folder.reference.read_bytes(), True)]
    assert watches.asked[0][0] != watches.asked[1][0]
    assert [step for step, _ in opening.ratios(WATCHED) if step.strategy == "watches"] == [Step.of("watches", asked=2)]
    assert opening.reference.latency.ratio == 1.0
    ratios = [e.latency.ratio for e in opening.reference_family.evaluations]
    assert ratios == pytest.approx([0.5] * len(ratios)), "beside the new reference"


def again(task: Task, plugins: PluginSet, folder: RunFolder, first_opening: Opening, only: Sequence[str]) -> Opening:
    """Opened by another process, with what is kept of the first one."""
    earlier = EarlierOpening.of(first_opening)
    known = EarlierOpening.from_json(json.loads(json.dumps(earlier.to_json())))
    assert known == earlier
    operations = in_process(task, PROFILE, plugins, folder)
    prepared = asyncio.run(operations.prepare(known.prepared, only, limit_s=math.inf))
    first = Pipeline(operations, folder, PROFILE, 0, prepared, untimed(prepared.applicable, only))
    return asyncio.run(open_reference(first, known, only, limit_s=math.inf, compare_exporters=False))


def test_what_was_found_out_for_scores_holds_after_a_resume(
    tiny_task: Task, plugins: PluginSet, open_here: Any, tmp_path: Path
) -> None:
    plugins.strategies["watches"] = watches = Watches()
    folder = RunFolder(tmp_path / "run")
    opening = open_here(tiny_task, PROFILE, plugins, folder, WATCHED, compare_exporters=False).opening
    asked = len(watches.asked)
    second = again(tiny_task, plugins, folder, opening, WATCHED)
    assert watches.asked[asked:] == [(folder.reference.read_bytes(), True)]
    assert second.reference == opening.reference


def test_a_reference_that_is_lost_is_exported_by_the_same_exporter_again(
    tiny_task: Task, plugins: PluginSet, dynamo_is_faster: None, open_here: Any, tmp_path: Path
):
    folder = RunFolder(tmp_path / "run")
    opening = open_here(tiny_task, PROFILE, plugins, folder, FEW).opening
    before = folder.reference.read_bytes()
    folder.reference.unlink()
    assert again(tiny_task, plugins, folder, opening, FEW).prepared.exporter == "dynamo"
    assert folder.reference.read_bytes() == before


def test_the_first_exporters_file_stays_unless_the_other_is_clearly_faster(
    tiny_task: Task, opened: Callable[..., Opening]
):
    ground = opened(tiny_task, compare_exporters=True).prepared
    assert ground.exporter == "torchscript"
    assert ground.export_note == "by torchscript; the file of dynamo takes 1.00x the time of torchscript's"


def test_data_dependent_control_flow_that_a_trace_does_not_show_is_refused(
    branching_task: Task, opened: Callable[..., Opening]
):
    with pytest.raises(UsageError, match=r"data-dependent control flow.*conftest\.py, line \d+"):
        opened(branching_task, compare_exporters=False)


@pytest.mark.parametrize(("overhead_ms", "told"), [(0.4, False), (0.6, True)])
def test_a_reference_that_is_hardly_more_than_a_call_is_told(
    overhead_ms: float, told: bool, tiny_task: Task, opened: Callable[..., Opening], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = opened(tiny_task).reference.latency.p50
    monkeypatch.setattr(
        "autocompress.candidate.preparation.call_overhead_ms", lambda runtime, profile: overhead_ms * usual
    )
    assert any("a file that computes nothing" in w for w in opened(tiny_task).warnings) is told

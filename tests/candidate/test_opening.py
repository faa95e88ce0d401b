"""What a user is told of the task before anything is searched."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autocompress import Task
from autocompress.candidate.opening import Opening, complete
from autocompress.candidate.preparation import prepare
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.run.folder import RunFolder


@pytest.fixture
def opened(plugins: PluginSet, tmp_path: Path) -> Callable[[Task], Opening]:
    profile = HardwareProfile(name="fake", runtime="fake")
    return lambda task: complete(prepare(task, profile, plugins, RunFolder(tmp_path / "run")))[1]


@pytest.mark.parametrize(("times", "told"), [(1.0, False), (1e-4, True), (1e3, True)])
def test_a_metric_whose_hundredths_mean_nothing_is_told(
    times: float, told: bool, tiny_task: Task, opened: Callable[[Task], Opening]
):
    def metric(outputs: Tensor, targets: Tensor) -> float:
        return times * float((outputs.argmax(1) == targets).float().mean())

    warnings = opened(replace(tiny_task, metric=metric)).warnings
    assert any("scale Task.metric so that 0.01 is a difference that matters" in w for w in warnings) is told


def test_a_reference_that_learned_nothing_is_told(tiny_task: Task, opened: Callable[[Task], Opening]):
    inputs: Any = tiny_task.val[0]  # type: ignore[index]
    lopsided = torch.zeros(len(inputs), dtype=torch.int64)
    lopsided[:2] = 1
    warnings = opened(replace(tiny_task, val=(inputs, lopsided))).warnings
    assert any("no better than always answering the commonest class" in w for w in warnings)

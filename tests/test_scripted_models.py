"""A module of torch.jit is delivered and quantized; what would have to see its layers says why it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.commands.inspect import inspect_task
from autocompress.plugin.contract import Stage, stages_of
from autocompress.plugin.loader import PluginSet
from autocompress.task import Task

MADE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "scripted": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, torch.zeros(1, 1, 8, 8)),  # type: ignore[no-untyped-call]
    "a part": lambda model: nn.Sequential(torch.jit.script(model), nn.Identity()),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
@pytest.mark.parametrize("how", MADE)
def test_it_is_exported_and_quantized_and_the_rest_says_why_not(
    how: str,
    tiny_model: nn.Module,
    make_tiny_task: Callable[[nn.Module], Task],
    open_quickly: Any,
    shared_plugins: PluginSet,
    tmp_path: Path,
) -> None:
    task = make_tiny_task(MADE[how](tiny_model))
    here = open_quickly(task, shared_plugins, tmp_path, tuple(shared_plugins.strategies))
    opening = here.opening
    assert {a.name for a in opening.applicable} >= {"quantize_static"}
    assert all(set(a.stages) == {Stage.GRAPH} for a in opening.applicable)
    assert not opening.reference_family.failed
    assert any(e.recipe.variant is not None for e in opening.reference_family.evaluations)
    refused = {r.strategy: r.reason for r in opening.refused}
    graph = {name for name, own in shared_plugins.strategies.items() if set(stages_of(own)) == {Stage.GRAPH}}
    said = [reason for name, reason in refused.items() if name not in graph]
    assert said
    assert all("is of torch.jit" in reason and "give the module that it was made of" in reason for reason in said)
    float_task = make_tiny_task(tiny_model)
    plain = open_quickly(float_task, shared_plugins, tmp_path / "plain", ("quantize_static",))
    assert opening.reference.score.val == plain.opening.reference.score.val


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
def test_inspect_shows_it_without_a_warning_about_its_layers() -> None:
    model = torch.jit.script(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    x, y = torch.randn(64, 4), torch.arange(64) % 2
    task = Task("scripted", model, (x[:32], y[:32]), (x[32:], y[32:]))
    found = inspect_task(task, "cpu", sensitivity_s=0.0, clock=lambda: 0.0)
    assert not [text for text in found["warnings"] if "ScriptModule" in text]
    assert not found["left_alone"]

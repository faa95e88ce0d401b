"""A model made again from its recipe: from the stored weights, or trained anew."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest

from autocompress.candidate.repair import reconstruction
from autocompress.candidate.repair.reconstruction import RECONSTRUCTION
from autocompress.commands import apply
from autocompress.commands.apply import apply_recipe
from autocompress.errors import AutocompressError
from autocompress.explore.opening.reference import open_task
from autocompress.plugin.contract import Array, Feed, Session
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, RecipeFile, Step
from autocompress.task_source import load_task
from tests.conftest import FakeRuntime, FakeSession

TASK = """
import torch
from torch import nn
from autocompress import Task

def data(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    return torch.randn(n, 1, 8, 8, generator=g) + y[:, None, None, None], y

def task():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
    return Task(name="small", model=net, train=data(300, 0), val=data(90, 1))
"""
NAMED = ("quantize_aware", "distill_logits", "float16", "prune_channels")
FAMILY = Recipe(
    (
        Step.of("prune_channels", ratio=0.5, importance="l2", allocation="uniform", schedule="at_once", round_to=8),
        Step.of("distill_logits", alpha=0.9, temperature=4.0, schedule="constant"),
        Step.of("quantize_aware", starts_at=0.0),
        Step.of("train", lr=0.002, batch_size=64),
    )
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("task") / "my_task.py"
    path.write_text(TASK)
    return f"{path}:task"


@pytest.fixture(scope="module")
def opened(
    open_quickly: Any, target: str, shared_plugins: PluginSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The task, opened once for all; what is made again is opened by the quick exporter too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apply, "load_plugins", lambda: shared_plugins)
        patch.setattr(apply, "open_task", partial(open_task, compare_exporters=False))
        yield open_quickly(load_task(target), shared_plugins, tmp_path_factory.mktemp("run"), only=NAMED)


def recipe_of(opened: Any, family: Recipe, variant: str, **request: Any) -> Path:
    """The recipe.toml of one file of a family."""
    outcome = opened.evaluate(family, examples=300, **request)
    made = next(e for e in outcome.evaluations if e.recipe.variant and e.recipe.variant.strategy == variant)
    path: Path = opened.task.folder.root / made.artifact
    return path.with_name("recipe.toml")


def test_what_training_learned_is_in_the_model_made_again(opened: Any, target: str, tmp_path: Path) -> None:
    recipe = recipe_of(opened, FAMILY, "quantize_aware")
    assert RecipeFile.read(recipe).learned["quantize_aware"]
    told = re.fullmatch(
        r".* differ from .* by at most (.*)", apply_recipe(recipe, target, tmp_path / "made", redo=False)
    )
    assert told is not None
    assert float(told[1]) < 1e-6


def test_a_file_that_saves_size_alone_is_trained_anew(opened: Any, target: str, tmp_path: Path) -> None:
    recipe = recipe_of(opened, Recipe(), "float16")
    assert "made anew" in apply_recipe(recipe, target, tmp_path / "made", redo=True)
    assert RecipeFile.read(tmp_path / "made" / "recipe.toml").recipe == RecipeFile.read(recipe).recipe


def test_what_nothing_trained_is_reconstructed_by_as_many_steps_as_it_was(
    opened: Any, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "LEAST_ERROR", 0.0)  # its repair is all but exact
    recipe = recipe_of(opened, Recipe(FAMILY.steps[:1]), "float16", calibration={RECONSTRUCTION: 3200})
    assert RecipeFile.read(recipe).calibration[RECONSTRUCTION] == 3200
    apply_recipe(recipe, target, tmp_path / "made", redo=True)
    made, stored = (RecipeFile.read(path) for path in (tmp_path / "made" / "recipe.toml", recipe))
    assert made.calibration == stored.calibration
    assert made.facts["val"] == stored.facts["val"]


def test_a_variant_that_is_no_longer_offered_is_said_to_be(opened: Any, target: str, tmp_path: Path) -> None:
    recipe = recipe_of(opened, Recipe(), "float16")
    stored = RecipeFile.read(recipe)
    other = RecipeFile(**{**stored.__dict__, "recipe": Recipe(variant=Step.of("float16", mode="none"))})
    recipe.write_text(other.to_toml())
    with pytest.raises(AutocompressError, match="not among what that strategy now offers"):
        apply_recipe(recipe, target, tmp_path / "made", redo=True)


class Saturating(FakeRuntime):
    """A target on which int8 files give something else than they say."""

    def saturates(self, profile: HardwareProfile) -> bool:
        return True

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        int8 = any(node.op_type == "DequantizeLinear" for node in onnx.load(str(path)).graph.node)
        return Doubled(path) if int8 else FakeSession(path)

    def exact(self, path: Path, profile: HardwareProfile) -> Session:
        return FakeSession(path)


class Doubled(FakeSession):
    def run(self, feed: Feed) -> Sequence[Array]:
        return [2 * output for output in super().run(feed)]


def test_a_file_whose_outputs_are_cut_off_on_this_machine_is_not_made(
    opened: Any, target: str, shared_plugins: PluginSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(opened, FAMILY, "quantize_aware")
    elsewhere = replace(shared_plugins, runtimes={**shared_plugins.runtimes, "fake": Saturating()})
    monkeypatch.setattr(apply, "load_plugins", lambda: elsewhere)
    told = r"cannot be made here: quantize_aware: .*cut off on this target.*; make it on a machine like the one of the"
    with pytest.raises(AutocompressError, match=told):
        apply_recipe(recipe, target, tmp_path / "made", redo=False)
    assert not (tmp_path / "made" / "model.onnx").exists()

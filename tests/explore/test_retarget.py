"""The models of a finished search on another target: made again from what the run keeps, measured there."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autocompress import Task, retarget
from autocompress.errors import UsageError
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Recipe
from autocompress.task import TaskSource
from tests.recordings.documents import chosen_of, score_of

Retarget = Callable[..., dict[str, Any]]
BATCH = 4


@pytest.fixture
def elsewhere(finished: Any, tiny_task: Task, shared_plugins: PluginSet, tmp_path: Path) -> Retarget:
    """``elsewhere()``: the run ``finished``, a copy of it, on a target that takes four examples a call and no int8."""
    profile = tmp_path / "elsewhere.toml"
    profile.write_text(f'name = "elsewhere"\nruntime = "fake"\nbatch = {BATCH}\nprecisions = ["float32"]\n')
    finished.copied_to(tmp_path / "run")

    def go(task: Task | str | None = tiny_task, **options: Any) -> dict[str, Any]:
        return retarget(tmp_path / "run", task, profile=str(profile), plugins=shared_plugins, quiet=True, **options)

    return go


def float_scores(document: dict[str, Any]) -> dict[str, float]:
    """Of the files that are no graph variant, by recipe."""
    recipes = [(Recipe.from_json(c["recipe"]), c) for c in document["candidates"]]
    return {str(recipe): score_of(c) for recipe, c in recipes if recipe.variant is None}


def test_what_the_front_holds_is_made_again_and_measured_there(
    finished: Any, elsewhere: Retarget, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.onnx")}
    document = elsewhere(speedup=1.2)
    families = {Recipe.from_json(c["recipe"]).family for c in finished.document["candidates"] if c["on_front"]}
    made = {Recipe.from_json(c["recipe"]).family for c in document["candidates"]}
    assert families <= made
    assert document["environment"]["profile"]["batch"] == BATCH
    assert {"float32"} == set(document["environment"]["profile"]["precisions"])
    assert not any(c["recipe"][-1]["strategy"].startswith("quantize") for c in document["candidates"] if c["recipe"])
    assert (tmp_path / "run-elsewhere" / "recommended" / "model.onnx").exists()
    assert chosen_of(document)["latency_ms"]["sessions"] >= 3
    assert {path: path.read_bytes() for path in before} == before, "the run stays as it is"


def test_nothing_is_trained_and_every_float_file_scores_what_it_scored(finished: Any, elsewhere: Retarget) -> None:
    document = elsewhere()
    assert "train" not in document["spent_seconds"]
    known, now = float_scores(finished.document), float_scores(document)
    common = known.keys() & now.keys()
    assert len(common) > 1
    assert {name: now[name] for name in common} == pytest.approx({name: known[name] for name in common}, abs=1e-6)


def test_the_budget_is_the_runs_own_unless_another_is_given(finished: Any, elsewhere: Retarget) -> None:
    assert elsewhere()["budget"]["speedup"] == finished.document["budget"]["speedup"]
    assert elsewhere(speedup=1.2, out="other")["budget"]["speedup"] == 1.2


def test_the_same_command_again_goes_on_with_what_is_there(elsewhere: Retarget) -> None:
    first = elsewhere()
    again = elsewhere()
    assert [c["id"] for c in again["candidates"]] == [c["id"] for c in first["candidates"]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_another_task_is_refused(elsewhere: Retarget, tiny_task: Task, tmp_path: Path) -> None:
    other = replace(tiny_task)
    with torch.no_grad():
        next(iter(other.model.parameters())).add_(1.0)
    with pytest.raises(UsageError, match=r"another task \(its (weights|model)[a-z ]* differs?\)"):
        elsewhere(other)
    assert not (tmp_path / "run-elsewhere").exists(), "nothing is left behind"


def test_without_the_task_the_run_has_to_know_where_it_came_from(elsewhere: Retarget) -> None:
    with pytest.raises(UsageError, match="does not say where its task came from"):
        elsewhere(None)


def test_the_run_itself_is_not_written_to(elsewhere: Retarget, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--out is the run itself"):
        elsewhere(out=tmp_path / "run")


def test_a_run_without_weights_is_refused(elsewhere: Retarget, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "run" / "store")
    with pytest.raises(UsageError, match="keeps no weights of the models that it found"):
        elsewhere()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run in"):
        retarget(tmp_path / "nothing", "my_task.py", profile="cpu", quiet=True)


def test_a_task_file_that_was_changed_is_refused_before_it_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    path.write_text("def task(): ...")
    source = TaskSource.of(f"{path}:task")
    source.refuse_another()
    path.write_text("raise SystemExit('it was imported')")
    with pytest.raises(UsageError, match="was changed since the run"):
        source.refuse_another()
    path.unlink()
    with pytest.raises(UsageError, match="is gone"):
        source.refuse_another()

"""The models of a finished search on another target: made again from what the run keeps, measured there."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from autocompress import Task, retarget
from autocompress.errors import UsageError
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Recipe
from autocompress.search_request import out_beside
from autocompress.storage.store import Store
from autocompress.task_source import TaskSource
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
        options = {"quiet": True, **options}
        return retarget(tmp_path / "run", task, profile=str(profile), plugins=shared_plugins, **options).document

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


def test_what_saves_size_alone_is_not_made_for_it(elsewhere: Retarget) -> None:
    made = {step["strategy"] for c in elsewhere(speedup=1.2)["candidates"] for step in c["recipe"]}
    assert made.isdisjoint({"float16", "quantize_weights", "prune_weights", "share_weights"})


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
    path, run = tmp_path / "my_task.py", tmp_path / "run"
    path.write_text("def task(): ...")
    source = TaskSource.of("my_task.py:task")
    assert source is not None
    assert source.target == f"{path}:task", "from any folder"
    source.refuse_another(run, TaskSource.of(source.target))
    path.write_text("raise SystemExit('it was imported')")
    with pytest.raises(UsageError, match="was changed since the run"):
        source.refuse_another(run, TaskSource.of(source.target))
    path.unlink()
    with pytest.raises(UsageError, match="is gone"):
        source.refuse_another(run, TaskSource.of(source.target))


def test_a_task_that_came_with_the_run_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "my_task.py"
    path.write_text("raise SystemExit('it was imported')")
    source = TaskSource.of(f"{path}:task")
    assert source is not None
    with pytest.raises(UsageError, match="lies in the run"):
        source.refuse_another(tmp_path / "run", TaskSource.of(source.target))


def test_the_file_of_a_module_is_found_without_importing_it(tmp_path: Path) -> None:
    package = tmp_path / "some_package_of_tasks"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('it was imported')")
    (package / "tasks.py").write_text("raise SystemExit('it was imported')")
    source = TaskSource.of("some_package_of_tasks.tasks:make")
    assert source is not None
    assert (source.target, source.file) == ("some_package_of_tasks.tasks:make", str(package / "tasks.py"))
    assert TaskSource.of("no_such_package.tasks") is None


def test_a_module_of_that_name_elsewhere_is_another_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("mine", "theirs"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "some_tasks.py").write_text(f"raise SystemExit({folder!r})")
    monkeypatch.chdir(tmp_path / "mine")
    source = TaskSource.of("some_tasks:task")
    assert source is not None
    source.refuse_another(tmp_path / "run", TaskSource.of(source.target))
    monkeypatch.chdir(tmp_path / "theirs")
    with pytest.raises(UsageError, match="was changed since the run"):
        source.refuse_another(tmp_path / "run", TaskSource.of(source.target))


def test_a_key_that_is_none_copies_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match="no key of a store"):
        Store(tmp_path / "new").take(Store(tmp_path / "old"), ["../mine"])


def test_weights_that_were_cut_short_are_not_trained_anew(elsewhere: Retarget, tmp_path: Path) -> None:
    for path in (tmp_path / "run" / "store").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UsageError, match="keeps no weights of the models that it found"):
        elsewhere()


def test_what_there_was_no_time_for_is_said(elsewhere: Retarget) -> None:
    said = StringIO()
    document = elsewhere(minutes=0.01, quiet=False, console=Console(file=said, width=200))
    assert "models were left out: there was no time for them" in said.getvalue() or len(document["candidates"]) > 1


def test_a_folder_beside_the_run_is_named_by_the_profile(
    elsewhere: Retarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "run")
    assert out_beside(Path(), "lab/board") == tmp_path / "run-lab_board"

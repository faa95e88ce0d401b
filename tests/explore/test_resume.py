"""The same call again: what is kept, what is refused, what is made up for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from autocompress import Task
from autocompress.errors import AutocompressError, CandidateFailed, UsageError
from autocompress.evaluation import Evaluation
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.latency import Latency
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import RecipeFile
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record

MINUTES = 1.0  # far more than three trials take; a busy machine must not change the outcome


def test_the_same_call_again_resumes_and_trains_nothing_twice(run: Any, plugins: PluginSet, tmp_path: Path) -> None:
    first = run(speedup=3, trials=1)
    weights = {p.name: p.stat().st_ino for p in (tmp_path / "run" / "store").glob("weights-*")}
    second = run(speedup=3, trials=3, minutes=4 * MINUTES)
    before = {c["id"]: c["score"]["val"] for c in first["candidates"]}
    after = {c["id"]: c["score"]["val"] for c in second["candidates"]}
    assert before.items() <= after.items(), "every candidate of the first run is still there, unchanged"
    assert len(after) > len(before)
    assert all((tmp_path / "run" / "store" / name).stat().st_ino == file for name, file in weights.items())
    delivered = tmp_path / "run" / "recommended" / "model.onnx"
    content = delivered.read_bytes()
    delivered.write_bytes(b"of the run before")  # as a kill between it and front.json leaves it
    again = run(speedup=3, trials=3, minutes=4 * MINUTES)
    assert again == second, "a finished search prints its result"
    assert delivered.read_bytes() == content


def test_the_test_split_is_scored_once_for_each_file(run: Any, tiny_task: Task) -> None:
    scored: list[int] = []

    def counted(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        if torch.equal(targets, tiny_task.test[1]):
            scored.append(1)
        return float((outputs.argmax(1) == targets).float().mean())

    tiny_task.metric = counted
    first = run(speedup=3, trials=1)
    tested = sum(1 for c in first["candidates"] if c["score"]["test"] is not None)
    assert 0 < len(scored) <= tested
    so_far = len(scored)
    second = run(speedup=3, trials=1, minutes=2 * MINUTES)
    fresh = {c["id"] for c in second["candidates"] if c["score"]["test"] is not None} - {
        c["id"] for c in first["candidates"]
    }
    assert len(scored) - so_far <= len(fresh) + 1


def test_what_could_not_be_measured_again_at_the_end_is_when_the_search_goes_on(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_again, measured = Pipeline.measure_again, set()

    async def fails(own: Pipeline, evaluation: Evaluation, *others: Any) -> Latency:
        raise CandidateFailed("it does not open")

    async def counted(own: Pipeline, evaluation: Evaluation, *others: Any) -> Latency:
        measured.add(evaluation.id)
        return await measure_again(own, evaluation, *others)

    monkeypatch.setattr(Pipeline, "measure_again", fails)
    first = {c["id"] for c in run(trials=1)["candidates"]}
    monkeypatch.setattr(Pipeline, "measure_again", counted)
    run(trials=1, minutes=2 * MINUTES)
    assert measured & first


def test_resuming_with_another_model_or_space_is_refused(run: Any, tiny_task: Task, tmp_path: Path) -> None:
    run(speedup=3, trials=1)
    kept = (tmp_path / "run" / "front.json").read_bytes()
    narrower = tmp_path / "narrower.toml"
    narrower.write_text('name = "narrower"\n[parameters]\n"prune_channels.ratio" = [0.5]\n')
    with pytest.raises(UsageError, match=r"another space \(prune_channels\.ratio.*another --out"):
        run(speedup=3, trials=2, space=str(narrower))
    with torch.no_grad():
        next(tiny_task.model.parameters()).add_(1)
    with pytest.raises(UsageError, match="another model, data or task file"):
        run(speedup=3, trials=2)
    assert (tmp_path / "run" / "front.json").read_bytes() == kept


def test_the_floor_is_looked_for_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(speedup=1e6)
    gated: list[str] = []
    monkeypatch.setattr(Pipeline, "gate", lambda own, recipe, *others: gated.append(recipe.techniques()))
    assert run(speedup=1e6) == first
    again = run(speedup=1e6, minutes=2 * MINUTES)
    assert (again["status"], again["nearest"]) == ("infeasible", first["nearest"])
    assert not gated


def test_a_task_that_cannot_be_opened_leaves_nothing_to_resume(run: Any, tiny_task: Task) -> None:
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise ValueError("not yet")

    with pytest.raises(UsageError, match="not yet"):
        run(replace(tiny_task, loss=loss), speedup=1e6)
    with torch.no_grad():
        next(tiny_task.model.parameters()).add_(0.01)
    assert run(speedup=3)["status"] == "feasible"


def test_a_reference_file_that_is_gone_is_made_and_measured_again(run: Any, plugins: PluginSet, tmp_path: Path) -> None:
    first = run(speedup=3, trials=1)
    reference = tmp_path / "run" / first["reference"]["artifact"]
    reference.unlink()
    plugins.runtimes["fake"].ms_per_mac *= 2  # type: ignore[attr-defined]
    second = run(speedup=3, trials=2, minutes=2 * MINUTES)
    assert reference.exists()
    assert second["reference"]["latency_ms"]["p50"] == pytest.approx(2 * first["reference"]["latency_ms"]["p50"])
    assert len(second["candidates"]) > len(first["candidates"])


def test_an_added_strategy_joins_a_run_that_began_without_it(run: Any, plugins: PluginSet) -> None:
    own = plugins.strategies.pop("finetune")
    run(speedup=3, trials=1)
    plugins.strategies["finetune"] = own
    assert run(speedup=3, trials=2)["status"] == "feasible"


def test_an_altered_checkpoint_is_made_up_for(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(speedup=3, trials=2)
    for path in (tmp_path / "run" / "store").glob("weights-*"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    second = run(speedup=3, trials=3, minutes=4 * MINUTES, quiet=False, console=Console(width=300))
    assert "its content was altered" in capsys.readouterr().out
    assert second["status"] == "feasible"
    longest = max(c["fidelity"] for c in second["candidates"])
    assert longest > max(c["fidelity"] for c in first["candidates"]), "the finalist trained on all the same"


def test_a_model_whose_weights_the_store_no_longer_has_is_delivered_and_its_recipe_says_what_is_missing(
    run: Any, tmp_path: Path
) -> None:
    run(speedup=3, trials=1)
    for path in (tmp_path / "run" / "store").glob("weights-*"):
        path.unlink()
    (tmp_path / "run" / "front.json").unlink()
    document = run(speedup=3, trials=1, minutes=1e-6)
    assert document["recommended"]
    assert (tmp_path / "run" / "recommended" / "model.onnx").exists()
    assert not (tmp_path / "run" / "recommended" / "weights.safetensors").exists()
    assert RecipeFile.read(tmp_path / "run" / "recommended" / "recipe.toml").weights == "weights.safetensors"


def test_a_record_of_another_version_is_refused_and_left_alone(run: Any, tmp_path: Path) -> None:
    run(speedup=3, trials=1)
    record = open_record(RunFolder(tmp_path / "run").study)
    record.set("schema", record.get("schema") + 1)
    record.close()
    kept = (tmp_path / "run" / "front.json").read_bytes()
    with pytest.raises(UsageError, match=r"written by another version of autocompress .*another --out"):
        run(speedup=3, trials=2)
    assert (tmp_path / "run" / "front.json").read_bytes() == kept


def test_a_full_disk_ends_the_search_with_the_path_and_the_same_call_goes_on(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autocompress.storage.atomic import no_space
    from autocompress.storage.store import Store

    own = Store.save
    saved: list[str] = []

    def save(self: Store, key: str, tensors: Any) -> None:
        if key.startswith("weights"):
            saved.append(key)
            if len(saved) == 2:
                raise no_space(self.path(key), OSError(28, "No space left on device"))
        own(self, key, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", save)
        with pytest.raises(AutocompressError, match=r"cannot write .*weights-.*No space left .*MiB free"):
            run(speedup=3)
    document = json.loads((tmp_path / "run" / "front.json").read_text())
    assert any(c["fidelity"] > 0 for c in document["candidates"]), "the first family is kept"
    after = run(speedup=3)
    assert {c["id"] for c in document["candidates"]} <= {c["id"] for c in after["candidates"]}
    assert after["status"] == "feasible"


def test_resuming_a_task_object_with_another_metric_is_refused(run: Any, tiny_task: Task) -> None:
    run(speedup=3, trials=1)
    with pytest.raises(UsageError, match="another model, data or task file"):
        run(replace(tiny_task, metric=lambda outputs, targets: 0.5), speedup=3, trials=2)

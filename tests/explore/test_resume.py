"""The same call again: what is kept, what is refused, what is made up for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from autocompress import Task
from autocompress.budget import Budget
from autocompress.errors import AutocompressError, UsageError
from autocompress.recipe import RecipeFile
from tests.recordings import kinds
from tests.recordings.declared import Declared, Faults
from tests.recordings.harness import Ended, Kept, searched
from tests.recordings.scenarios import Process, Scenario

MINUTES = 60.0  # far more than three trials take: how busy the machine is changes nothing
THREE_TIMES = Budget(speedup=3)


# -- of which nothing is computed --------------------------------------------------------------------------------------


def test_the_test_split_is_scored_once_for_each_file(tmp_path: Path) -> None:
    processes = (Process(8, trials=2), Process(16, trials=5), Process(24, trials=5))
    first, second, third = searched(Scenario("search", kinds.CNN, processes, THREE_TIMES), tmp_path / "run")
    scored = [name for ended in (first, second, third) for call in ended.asked("test") for name in call["files"]]
    assert len(scored) == len(set(scored))
    tested = {c["id"] for c in third.front["candidates"] if c["score"]["test"] is not None}
    assert tested == set(scored)
    assert second.asked("test"), "what is new on the front is scored"


def test_resuming_with_another_model_or_space_is_refused(tmp_path: Path) -> None:
    kept, whole = Kept(), Scenario("search", kinds.CNN, (Process(8, trials=1),), THREE_TIMES)
    (first,) = searched(whole, tmp_path / "run", kept)
    narrower = replace(whole, choices={"carve.ratio": (0.5,)})
    (refused,) = searched(narrower, tmp_path / "run", kept)
    assert refused.why is not None
    assert "another space (carve.ratio changed)" in refused.why
    assert "another --out" in refused.why
    (again,) = searched(replace(whole, processes=(Process(16, trials=2),)), tmp_path / "run", kept)
    before = {c["id"]: c["score"]["val"] for c in first.front["candidates"]}
    assert before.items() <= {c["id"]: c["score"]["val"] for c in again.front["candidates"]}.items(), "it stays"


def test_the_floor_is_looked_for_once(tmp_path: Path) -> None:
    processes = (Process(4), Process(8))
    scenario = Scenario("search", kinds.CNN, processes, Budget(speedup=500))
    first, again = searched(scenario, tmp_path / "run")
    assert first.asked("gate")
    assert not again.asked("gate")
    assert (again.front["status"], again.front["nearest"]) == ("infeasible", first.front["nearest"])


def test_no_structure_is_timed_before_training_again_when_the_search_goes_on(tmp_path: Path) -> None:
    """Nor one that was rejected, of which no file is left."""
    kept, scenario = Kept(), Scenario("search", kinds.CNN, (Process(8), Process(24)), Budget(speedup=6))
    first, second = searched(scenario, tmp_path / "run", kept)
    declared = Declared(kinds.CNN, scenario.seed, scenario.faults)

    def gated(ended: Ended) -> set[str]:
        files = {arguments[0].candidate for name, arguments, *_ in ended.operations if name == "compare"}
        paths = {file.relative_to(tmp_path / "run").as_posix() for file in files}
        return {declared.graph(kept.remembered.recipes[path]) for path in paths if path.startswith("store/scratch/")}

    assert second.asked("gate")
    assert first.front["rejected"]
    assert gated(first)
    assert not gated(first) & gated(second)


def test_an_added_strategy_joins_a_run_that_began_without_it(tmp_path: Path) -> None:
    kept, process = Kept(), Process(8, trials=2)
    without = replace(kinds.CNN, applicable=tuple(a for a in kinds.CNN.applicable if a.name != "small"))
    (first,) = searched(Scenario("search", without, (process,), THREE_TIMES), tmp_path / "run", kept)
    (second,) = searched(Scenario("search", kinds.CNN, (Process(24, trials=12),), THREE_TIMES), tmp_path / "run", kept)
    assert second.front["status"] == "feasible"
    tried = [{s["strategy"] for r in (*one.front["candidates"], *one.front["rejected"]) for s in r["recipe"]}
             for one in (first, second)]  # fmt: skip
    assert "small" not in tried[0]
    assert "small" in tried[1]


def test_what_could_not_be_measured_again_at_the_end_is_when_the_search_goes_on(tmp_path: Path) -> None:
    kept = Kept()
    fails = Scenario("search", kinds.CNN, (Process(8, trials=3),), faults=Faults(unmeasured=1.0))
    (first,) = searched(fails, tmp_path / "run", kept)
    at_first = {call["file"] for call in first.asked("session")}
    goes_on = replace(fails, processes=(Process(16, trials=3),), faults=Faults())
    (second,) = searched(goes_on, tmp_path / "run", kept)
    assert at_first & {call["file"] for call in second.asked("session")}


# -- computed ----------------------------------------------------------------------------------------------------------


def test_the_same_call_again_resumes_and_trains_nothing_twice(run: Any, finished: Any, tmp_path: Path) -> None:
    first = finished.copied_to(tmp_path / "run")
    weights = {p.name: p.stat().st_ino for p in (tmp_path / "run" / "store").glob("weights-*")}
    second = run(speedup=3, trials=3, minutes=4 * MINUTES)
    before = {c["id"]: c["score"]["val"] for c in first["candidates"]}
    after = {c["id"]: c["score"]["val"] for c in second["candidates"]}
    assert before.items() <= after.items(), "every candidate of the first run is still there, unchanged"
    assert len(after) > len(before)
    assert all((tmp_path / "run" / "store" / name).stat().st_ino == file for name, file in weights.items())


def test_a_finished_search_gives_its_result_and_makes_up_for_a_delivery_that_was_cut_off(
    run: Any, finished: Any, tmp_path: Path
) -> None:
    first = finished.copied_to(tmp_path / "run")
    delivered = tmp_path / "run" / "recommended" / "model.onnx"
    content = delivered.read_bytes()
    delivered.write_bytes(b"of the run before")  # as a kill between it and front.json leaves it
    assert run(speedup=3, trials=1) == first
    assert delivered.read_bytes() == content


@pytest.mark.parametrize("what", ["weights", "metric"])
def test_resuming_with_another_task_is_refused_and_all_stays(
    what: str, run: Any, finished: Any, tiny_task: Task, tmp_path: Path
) -> None:
    finished.copied_to(tmp_path / "run")
    kept = (tmp_path / "run" / "front.json").read_bytes()
    if what == "metric":
        tiny_task = replace(tiny_task, metric=lambda outputs, targets: 0.5)
    else:
        with torch.no_grad():
            next(tiny_task.model.parameters()).add_(1)
    with pytest.raises(UsageError, match=f"another task: its {what}"):
        run(tiny_task, speedup=3, trials=2)
    assert (tmp_path / "run" / "front.json").read_bytes() == kept


def test_a_task_that_cannot_be_opened_leaves_nothing_to_resume(run: Any, tiny_task: Task) -> None:
    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        raise ValueError("not yet")

    with pytest.raises(UsageError, match="not yet"):
        run(replace(tiny_task, loss=loss))
    with torch.no_grad():
        next(tiny_task.model.parameters()).add_(0.01)
    assert run(speedup=1.5, no_train=True)["status"] == "feasible"


def test_a_reference_file_that_is_gone_is_made_again_and_its_sessions_count_on(run: Any, tmp_path: Path) -> None:
    first = run(no_train=True)
    reference = tmp_path / "run" / first["reference"]["artifact"]
    reference.unlink()
    second = run(no_train=True, minutes=2 * MINUTES)
    assert reference.exists()
    assert second["reference"]["latency_ms"]["sessions"] >= first["reference"]["latency_ms"]["sessions"]
    assert second["recommended"]


def test_an_altered_checkpoint_is_made_up_for(
    run: Any, finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = finished.copied_to(tmp_path / "run")
    for path in (tmp_path / "run" / "store").glob("weights-*"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    second = run(speedup=3, trials=1, minutes=4 * MINUTES, quiet=False, console=Console(width=300))
    assert "its content was altered" in capsys.readouterr().out
    assert second["status"] == "feasible"
    longest = max(c["fidelity"] for c in second["candidates"])
    assert longest > max(c["fidelity"] for c in first["candidates"]), "the finalist trained on all the same"


def test_a_model_whose_weights_the_store_no_longer_has_is_delivered_and_its_recipe_says_what_is_missing(
    run: Any, finished: Any, tmp_path: Path
) -> None:
    finished.copied_to(tmp_path / "run")
    for path in (tmp_path / "run" / "store").glob("*.safetensors"):
        path.unlink()
    (tmp_path / "run" / "front.json").unlink()
    document = run(speedup=3, trials=1, minutes=1e-6)
    assert document["recommended"]
    assert (tmp_path / "run" / "recommended" / "model.onnx").exists()
    assert not (tmp_path / "run" / "recommended" / "weights.safetensors").exists()
    assert RecipeFile.read(tmp_path / "run" / "recommended" / "recipe.toml").weights == "weights.safetensors"


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
            run(speedup=3, trials=2)
    document = json.loads((tmp_path / "run" / "front.json").read_text())
    assert any(c["fidelity"] > 0 for c in document["candidates"]), "the first family is kept"
    after = run(speedup=3, trials=1)
    assert {c["id"] for c in document["candidates"]} <= {c["id"] for c in after["candidates"]}
    assert after["status"] == "feasible"

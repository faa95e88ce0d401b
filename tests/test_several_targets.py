"""One search for several profiles."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress import several_targets
from autocompress.errors import UsageError
from autocompress.several_targets import search_for

Call = tuple[str, dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Call]:
    """What is asked of ``search`` and ``retarget``, in whose place nothing is computed."""
    monkeypatch.chdir(tmp_path)
    found: list[Call] = []

    def search(task: str, **options: Any) -> Any:
        found.append(("search", {"task": task, **options}))
        return SimpleNamespace(recommended="a")

    def retarget(run: Path, task: str, **options: Any) -> Any:
        found.append(("retarget", {"run": run, "task": task, **options}))
        return SimpleNamespace(recommended=None)

    monkeypatch.setattr(several_targets, "search", search)
    monkeypatch.setattr(several_targets, "retarget", retarget)
    return found


def asked(profiles: list[str], task: str | None = "my_task.py:task", **settings: Any) -> list[Any]:
    return search_for(profiles, task, quiet=True, **settings)


def test_what_the_first_profile_found_is_measured_for_the_others(calls: list[Call]) -> None:
    results = asked(["cpu", "openvino-cpu", "mnn-cpu"], speedup=4, minutes=10, seed=3, observe=["mlflow"])
    assert [result.recommended for result in results] == ["a", None, None]
    (_, first), (_, second), (_, third) = calls
    assert (first["profile"], second["profile"], third["profile"]) == ("cpu", "openvino-cpu", "mnn-cpu")
    assert first["out"] == second["run"] == third["run"] == Path("runs/my_task")
    assert first["minutes"] + second["minutes"] + third["minutes"] == pytest.approx(10)
    assert (first["speedup"], second["speedup"], first["seed"]) == (4, 4, 3)
    assert first["observe"] == second["observe"] == third["observe"] == ["mlflow"], "it is told of each"
    assert {"seed", "out"}.isdisjoint(second)


def test_with_many_profiles_at_least_half_of_the_time_is_for_the_search(calls: list[Call]) -> None:
    asked(["cpu"] + ["cpu-batch32"] * 9, minutes=10)
    assert calls[0][1]["minutes"] >= 5 - 1e-9
    assert sum(options["minutes"] for _, options in calls) == pytest.approx(10)


def test_data_and_checkpoint_of_a_hubs_model_go_to_every_profile(calls: list[Call]) -> None:
    asked(["cpu", "openvino-cpu"], "hf:my_bert", data="reviews.csv", checkpoint="mine.pt", minutes=10)
    tasks = [options["task"] for _, options in calls]
    assert tasks == ["hf:my_bert --data reviews.csv --checkpoint mine.pt"] * 2
    assert all({"data", "checkpoint"}.isdisjoint(options) for _, options in calls)


def test_a_profile_that_cannot_be_used_here_is_said_before_anything_is_searched(calls: list[Call]) -> None:
    with pytest.raises(UsageError, match=r"the profile cuda cannot be used here: .*onnxruntime-gpu"):
        asked(["cpu", "cuda"])
    assert not calls

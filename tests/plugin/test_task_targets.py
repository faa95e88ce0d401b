"""A task is called by a factory or by a hub's model with data, and a later command knows whether it is the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from autocompress import Task
from autocompress.errors import UsageError
from autocompress.hub_request import HubRequest, target_with
from autocompress.plugin.contract import Hub
from autocompress.plugin.loader import PluginSet
from autocompress.plugin.task_targets import source_of, task_of


class Shelf(Hub):
    name = "shelf"

    def __init__(self, task: Task) -> None:
        self.made = task
        self.beside: list[Path] = []

    def task(self, request: HubRequest) -> Task:
        return replace(self.made, name=f"{request.name} on {Path(request.data).name}")

    def files(self, request: HubRequest) -> list[Path]:
        return [Path(request.checkpoint or "weights.bin").resolve(), *self.beside]


@pytest.fixture
def shelf(tiny_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginSet:
    """A hub alone, in a folder with weights and data."""
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").write_bytes(b"weights")
    Path("my data").mkdir()
    Path("my data/a.txt").write_text("a")
    return PluginSet(hubs={"shelf": Shelf(tiny_task)})


TARGET = "shelf:maker/model --data 'my data'"


def test_a_hubs_model_and_data_make_a_task(shelf: PluginSet) -> None:
    assert task_of(TARGET, shelf).name == "model on my data"


def test_data_beside_a_model_are_one_text_with_it_which_can_be_read_again() -> None:
    target = target_with("shelf:maker/model", Path("my data"), "tuned weights.bin")
    assert target is not None
    assert HubRequest.read(target) == HubRequest("shelf", "maker/model", "my data", "tuned weights.bin")
    assert target_with("my_task.py:task", None, None) == "my_task.py:task"


@pytest.mark.parametrize("model", ["/home/me/my model", "~/models/bert", "bert(1)", "owner/model", "it's"])
def test_a_request_is_read_again_as_it_was_written(model: str) -> None:
    request = HubRequest("shelf", model, "some 'data' here", "a b")
    assert HubRequest.read(str(request)) == request
    assert HubRequest.read(f"{model}.py:task") is None


@pytest.mark.parametrize(
    ("task", "data", "checkpoint", "said"),
    [
        ("my_task.py:task", "data", None, r"my_task\.py:task brings its own"),
        (None, "data", None, "no task is given"),
        ("shelf:model", None, "weights.bin", "give the data too"),
        (TARGET, "data", None, "brings its own"),
    ],
)
def test_data_for_what_brings_its_own_are_refused(
    task: str | None, data: str | None, checkpoint: str | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        target_with(task, data, checkpoint)


def test_a_model_without_data_and_a_hub_that_there_is_not_are_refused(shelf: PluginSet) -> None:
    with pytest.raises(UsageError, match="shelf:model needs data: shelf:model --data DATA"):
        task_of("shelf:model", shelf)
    with pytest.raises(UsageError, match=r"unknown hub 'shelv': did you mean 'shelf'\?"):
        task_of("shelv:model --data there", shelf)
    for odd in (
        *("shelf:model --data", "shelf:model --data there --more", "shelf:model --data a --else b"),
        *("shelf:model --checkpoint --data x y", "shelf:model --data 'there"),
    ):
        with pytest.raises(UsageError, match="--data DATA"):
            task_of(odd, shelf)


def test_a_run_knows_its_model_and_data_from_any_folder(
    shelf: PluginSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(f"{TARGET} --checkpoint weights.bin", shelf)
    assert source is not None
    monkeypatch.chdir("/")
    assert source_of(source.target, shelf) == source
    source.refuse_another(tmp_path / "run", source_of(source.target, shelf))


@pytest.mark.parametrize("changed", ["weights.bin", "my data/a.txt"])
def test_a_model_or_data_that_were_changed_are_another_task(shelf: PluginSet, changed: str) -> None:
    source = source_of(TARGET, shelf)
    assert source is not None
    Path(changed).write_text("something else")
    with pytest.raises(UsageError, match="was changed since the run"):
        source.refuse_another(Path("run"), source_of(source.target, shelf))


def test_weights_that_came_with_the_run_are_not_loaded(shelf: PluginSet) -> None:
    source = source_of(TARGET, shelf)
    assert source is not None
    with pytest.raises(UsageError, match="lies in the run"):
        source.refuse_another(Path(), source)


@pytest.mark.parametrize("within", ["other.json", "my data"])
def test_no_part_of_what_came_with_the_run_is_loaded(shelf: PluginSet, within: str) -> None:
    """Not the data alone either, nor a file beside the weights, nor what a link of the run leads to."""
    hub = shelf.hubs["shelf"]
    assert isinstance(hub, Shelf)
    Path("run").mkdir()
    if within == "my data":
        Path(within).rename(f"run/{within}")
    else:
        Path("run/other.json").symlink_to(Path("my data/a.txt").resolve())
        hub.beside = [Path("run/other.json")]
    data = f"run/{within}" if within == "my data" else "my data"
    source = source_of(f"shelf:maker/model --data '{data}'", shelf)
    assert source is not None
    with pytest.raises(UsageError, match=f"{within} lies in the run"):
        source.refuse_another(Path("run"), source_of(source.target, shelf))

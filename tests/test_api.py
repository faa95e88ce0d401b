"""Which folder a search takes, and what it leaves when its input is bad."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.data import Dataset

import autocompress.run
from autocompress import Task, search
from autocompress.candidate.policy import TrainingPolicy
from autocompress.compute.policy import WorkerPolicy
from autocompress.errors import AutocompressError, UsageError
from autocompress.explore.policy import SearchPolicy
from autocompress.plugin.loader import PluginSet
from autocompress.run import SCORING_SHARE
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record

Search = Callable[..., dict[str, Any]]
EARLIER = Path(__file__).parent / "fixtures" / "finished_run"


@pytest.fixture
def start(plugins: PluginSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """``search`` on the profile ``fake``, in the working folder ``tmp_path / "here"``."""
    (tmp_path / "fake.toml").write_text('name = "fake"\nruntime = "fake"\n')
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def start(task: Task, **options: Any) -> dict[str, Any]:
        return search(task, profile=str(tmp_path / "fake.toml"), plugins=plugins, speedup=3, **options)

    return start


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that searches took, which then end at once."""
    folders: list[Path] = []

    def run(asked: Any, folder: RunFolder, *others: Any) -> dict[str, Any]:
        folders.append(folder.root)
        return {}

    monkeypatch.setattr("autocompress.run._run", run)
    return folders


def everything() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def write(*names: str) -> None:
    for path in map(Path, names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")


def test_search_in_a_repository_is_refused_and_touches_nothing(start: Search, tiny_task: Task):
    write(".pre-commit-config.yaml", ".git/config", ".tool-versions.bak", "recommended/model.onnx", "nearest/x", "a.py")
    before = everything()
    with pytest.raises(UsageError, match=r"\. holds what this command did not make \(\.git/, .* and 3 more\): choose"):
        start(tiny_task, out=".", quiet=True)
    assert everything() == before


def test_default_folder_that_is_not_ours_is_left_alone_and_another_taken(
    start: Search, taken: list[Path], tiny_task: Task, capsys: pytest.CaptureFixture[str]
):
    write("runs/tiny/results.csv")
    for quiet in (False, True):  # the same call again resumes
        start(tiny_task, quiet=quiet, console=Console(width=300))
    assert taken == [Path("runs/tiny-2")] * 2
    said = "runs/tiny is not a run folder of autocompress and stays as it is: this run is in runs/tiny-2."
    assert capsys.readouterr().out.count(said) == 1
    assert Path("runs/tiny/results.csv").read_text() == "mine"
    start(replace(tiny_task, name="other"), quiet=True)
    assert taken[-1] == Path("runs/other")


def test_bad_input_leaves_nothing_behind_but_what_is_not_ours(
    start: Search, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
):
    kept: list[str] = []

    def run(asked: Any, folder: RunFolder, *others: Any) -> None:
        write(str(folder.study), str(folder.reference), str(folder.candidate("a-0")), *kept)
        raise UsageError("the task is no good")

    monkeypatch.setattr("autocompress.run._run", run)
    for kept[:] in ([], ["run/log.txt", "run/store/log.txt", "run/candidates/log.txt"]):
        with pytest.raises(UsageError, match="no good"):
            start(tiny_task, out="run", quiet=True)
        assert sorted(everything()) == sorted(kept)
        assert Path("run").exists() == bool(kept)


def test_what_goes_wrong_later_loses_nothing_that_was_computed(
    start: Search, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
):
    async def fail(search: Any) -> None:
        raise UsageError("the task could be opened once and not again")

    def full(*given: Any) -> None:
        raise AutocompressError("no space left for front.json")

    monkeypatch.setattr("autocompress.run.Search.run", fail)
    monkeypatch.setattr("autocompress.run.write_results", full)
    with pytest.raises(AutocompressError, match="opened once and not again") as caught:
        start(tiny_task, out="run", quiet=True, policy=SearchPolicy(compare_exporters=False))
    assert caught.value.exit_code == 1, "2 says that nothing was trained"
    record = open_record(Path("run/study.db"))
    assert record.get("opening")
    record.close()
    assert Path("run/reference/model.onnx").exists()


class GoingBad(Dataset[Any]):
    """Validation examples that differ a little each time; once ``bad``, one of them cannot be read."""

    bad = False

    def __init__(self, task: Task) -> None:
        self.inputs, self.targets = task.val

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        if self.bad and index == 7:
            raise OSError("the disk is gone")
        return self.inputs[index] + 1e-4 * torch.rand(()), self.targets[index]


def test_an_example_that_cannot_be_read_later_ends_the_search_with_what_is_finished(
    start: Search, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
):
    val, run = GoingBad(tiny_task), autocompress.run.Search.run

    async def go_bad(search: Any) -> Any:
        val.bad = True
        return await run(search)

    monkeypatch.setattr("autocompress.run.Search.run", go_bad)
    with pytest.raises(AutocompressError, match="the val split cannot be read at index 7: OSError: the disk is gone"):
        start(replace(tiny_task, val=val), out="run", quiet=True, minutes=0.3)
    assert Path("run/front.json").exists(), "with the files of the unchanged model"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("recommended/model.onnx", "recommended/model.onnx was not made by this search: move it away"),
        ("nearest/recipe.toml", "nearest/recipe.toml was not made by this search: move it away"),
        ("report.html", "report.html is no report of autocompress: move it away"),
    ],
)
def test_what_is_in_the_way_is_refused_before_the_search_begins(
    name: str, told: str, start: Search, taken: list[Path], tiny_task: Task
):
    start(tiny_task, out="run", quiet=True)
    write(f"run/{name}")
    with pytest.raises(UsageError, match=f"run/{told}"):
        start(tiny_task, out="run", quiet=True)
    assert len(taken) == 1
    assert Path(f"run/{name}").read_text() == "mine"


def test_run_of_an_earlier_version_is_refused_with_the_reason_and_stays(start: Search, tiny_task: Task):
    shutil.copytree(EARLIER, "run")
    before = everything()
    del before["run/.lock"]  # which names the process that holds it
    with pytest.raises(UsageError, match=r"written by another version of autocompress .*: finish it with that version"):
        start(tiny_task, out="run", quiet=True)
    assert {name: content for name, content in everything().items() if name in before} == before


def test_scoring_the_reference_may_take_a_share_of_the_search_unless_its_policy_says_otherwise(
    start: Search, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float | None] = []

    def refused(*_: Any, policy: TrainingPolicy, **__: Any) -> None:
        asked.append(policy.scoring_s)
        raise UsageError("seen enough")

    monkeypatch.setattr(autocompress.run, "in_process", refused)
    given = SearchPolicy(workers=WorkerPolicy(training=TrainingPolicy(scoring_s=7.0)))
    for name, policy in (("a", SearchPolicy()), ("b", given)):
        with pytest.raises(UsageError, match="seen enough"):
            start(tiny_task, out=name, quiet=True, minutes=2, policy=policy)
    assert asked == [pytest.approx(SCORING_SHARE * 120), 7.0]

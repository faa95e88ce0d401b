"""The run folder: one search at a time, refused before any work when it cannot be written or is not ours."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autocompress.errors import AutocompressError, UsageError
from autocompress.storage.atomic import UNFINISHED
from autocompress.storage.folder import RunFolder
from autocompress.storage.store import Store


def ended(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[int]:
    """The number of another process, which holds the run folder ``tmp_path / "run"`` until it is killed."""
    told, tells = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            RunFolder(tmp_path / "run").claim()
            os.write(tells, b"claimed")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(tells)
    try:
        assert os.read(told, 100) == b"claimed"
        yield process
    finally:
        os.close(told)
        with suppress(ProcessLookupError):
            ended(process)


def test_second_search_is_refused_and_told_the_first_ones_process(holder: int, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match=rf"run is in use by process {holder}: .*another --out"):
        folder.claim()
    with pytest.raises(UsageError, match=str(holder)):
        folder.claim()  # asking does not overwrite the holder's number


def test_lock_of_a_killed_process_is_free(holder: int, tmp_path: Path):
    ended(holder)
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    folder.release()


def test_released_folder_can_be_claimed_again(tmp_path: Path):
    one, other = RunFolder(tmp_path), RunFolder(tmp_path)
    one.claim()
    with pytest.raises(UsageError, match=f"process {os.getpid()}"):
        other.claim()
    one.release()
    one.release()
    other.claim()
    other.release()


def test_lock_is_not_inherited_by_a_child(tmp_path: Path):
    one = RunFolder(tmp_path)
    one.claim()
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        one.release()
        other = RunFolder(tmp_path)
        other.claim()
        other.release()
    finally:
        child.kill()
        child.wait()
        child.stdin.close()


def test_folder_is_made_with_its_parents(tmp_path: Path):
    folder = RunFolder(tmp_path / "runs" / "with space #?" / "digits")
    folder.claim()
    folder.release()
    assert folder.root.is_dir()


def test_folder_that_cannot_be_written_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()

    def denied(*args: Any) -> int:  # root may write anywhere but in what is no real file system
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("autocompress.storage.folder.os.open", denied)
    monkeypatch.setattr("autocompress.storage.ownership.os.open", denied)
    for root in (tmp_path / "empty", Path("/proc/self/run")):
        with pytest.raises(UsageError, match=r"cannot write the run folder .*: .*; choose another --out"):
            RunFolder(root).claim()


def test_full_disk_names_the_path_and_the_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*args: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("autocompress.storage.folder.os.write", full)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(AutocompressError, match=r"cannot write .*run.*: No space left on device \(\d+ MiB free\)"):
        folder.claim()
    monkeypatch.undo()
    folder.claim()
    folder.release()


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match=rf"^{tmp_path}/file is no folder: choose another --out"):
            RunFolder(root).claim()


def test_artifacts_are_named_relative_to_the_folder(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    assert folder.relative(folder.candidate("0123456789-0")) == "candidates/0123456789-0/model.onnx"
    assert folder.relative(folder.reference) == "reference/model.onnx"


def write(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def everything(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    folder.release()
    model = folder.candidate("0123456789-0")
    kept = [
        model,
        folder.reference,
        folder.recommended / "notes-of-mine.md",
        folder.root / ".pre-commit-config.yaml",
        folder.stored / ".weights-0123-ab12.safetensors",
        folder.stored / "scratch" / "mine.txt",
    ]
    parents = (folder.root, folder.stored, model.parent, folder.reference.parent, folder.recommended, folder.nearest)
    left = [parent / f"{UNFINISHED}x1y2.onnx" for parent in parents] + [folder.scratch / "float.onnx"]
    write(*kept, *left)
    folder.claim()
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in left)
    assert not folder.scratch.exists()
    folder.release()


def test_own_scratch_is_gone_when_the_folder_is_let_go(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    write(folder.scratch / "float.onnx")
    folder.release()
    assert everything(folder.root) == {".autocompress-run", ".lock"}


def test_folder_that_is_not_ours_is_refused_untouched_and_what_is_there_is_named(tmp_path: Path):
    write(*(tmp_path / name for name in (".pre-commit-config.yaml", "recommended/model.onnx", "a.txt", "b.txt", "c/d")))
    before = everything(tmp_path)
    with pytest.raises(UsageError) as caught:
        RunFolder(tmp_path).claim()
    told = f"{tmp_path} holds what this command did not make (.pre-commit-config.yaml, a.txt, b.txt and 2 more)"
    assert str(caught.value).startswith(f"{told}: choose another --out")
    assert everything(tmp_path) == before


def test_folder_whose_first_write_was_cut_off_can_be_claimed(tmp_path: Path):
    write(tmp_path / f"{UNFINISHED}x1y2")
    folder = RunFolder(tmp_path)
    folder.claim()
    folder.release()


LINKED = ("store", "recommended", "candidates", "candidates/0123456789-0", "front.json", ".lock", "study.db")


@pytest.mark.parametrize("name", LINKED)
def test_link_in_place_of_what_a_run_writes_is_refused_and_not_followed(name: str, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    folder.release()
    (folder.root / name).unlink(missing_ok=True)
    (folder.root / name).parent.mkdir(exist_ok=True)
    (tmp_path / "precious").write_text("mine")
    (folder.root / name).symlink_to(tmp_path / "precious")
    with pytest.raises(UsageError, match=rf"{name} is a link, and a run folder holds its own files: remove the link"):
        folder.claim()
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["worker.log", "study.db", "front.json", ".machine.lock", "store", "candidates", "nearest"]
)
def test_what_is_of_another_kind_than_a_run_writes_is_refused_before_the_search(name: str, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    folder.release()
    kind = "file" if "." in name else "folder"
    (folder.root / name).mkdir() if kind == "file" else (folder.root / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"{name} is not the {kind} that a run folder holds there: move it away or"):
        folder.claim()


def test_nothing_is_left_of_a_folder_that_is_discarded(tmp_path: Path):
    folder = RunFolder(tmp_path / "runs" / "mine")
    folder.claim()
    log = folder.study.with_name("study.db-wal")  # where the disk was full
    write(folder.study, log, folder.worker_log, folder.reference, folder.candidate("a-0"), folder.scratch / "gate.onnx")
    Store(folder.stored).save_json(Store(folder.stored).key("plan", 1), {})
    folder.discard()
    folder.release()
    assert everything(tmp_path) == {"runs"}


def test_what_others_put_into_a_folder_outlives_it(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    mine = {
        "notes.md",
        "store/my-notes.json",
        f"store/plan-{'0' * 20}.json",
        "recommended/mine.onnx",
        "candidates/a-0/mine.txt",
        "candidates/b",
    }
    write(folder.study, folder.candidate("a-0"), *(folder.root / name for name in mine))
    folder.discard()
    folder.release()
    assert {path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*") if path.is_file()} == mine


def test_empty_folder_that_was_there_before_is_empty_again_when_discarded(tmp_path: Path):
    (tmp_path / "run").mkdir()
    for mine in (
        [],
        [tmp_path / "run" / ".autocompress-run", tmp_path / "run" / ".lock"],
    ):  # of a search that was killed
        write(*mine)
        folder = RunFolder(tmp_path / "run")
        folder.claim()
        write(folder.study, folder.worker_log, folder.reference)
        folder.discard()
        folder.release()
        assert everything(tmp_path) == {"run"}


def test_folder_of_an_earlier_search_is_not_discarded(tmp_path: Path):
    for _ in range(2):
        folder = RunFolder(tmp_path / "run")
        folder.claim()
        write(folder.study)
        folder.release()
    folder.claim()
    folder.discard()
    folder.release()
    assert folder.study.exists()


def test_delivered_model_is_not_discarded(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.claim()
    write(folder.recommended / "model.onnx", folder.nearest / "recipe.toml")
    folder.discard()
    folder.release()
    assert everything(folder.root) == {"recommended", "recommended/model.onnx", "nearest", "nearest/recipe.toml"}

"""The run folder: one search at a time, refused before any work when it cannot be written, readable afterwards."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autocompress.errors import UsageError
from autocompress.storage.folder import RunFolder, read_front

HOLD = """
import sys; from pathlib import Path; from autocompress.storage.folder import RunFolder
RunFolder(Path(sys.argv[1])).claim()
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run folder ``tmp_path / "run"``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "claimed\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()


def test_second_search_is_refused_and_told_the_first_ones_process(holder: subprocess.Popen[str], tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match=rf"run is in use by process {holder.pid}: .*another --out"):
        folder.claim()
    with pytest.raises(UsageError, match=str(holder.pid)):
        folder.claim()  # asking does not overwrite the holder's number


def test_lock_of_a_killed_process_is_free(holder: subprocess.Popen[str], tmp_path: Path):
    holder.kill()
    holder.wait()
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


def test_folder_that_cannot_be_written_is_refused_with_a_way_out(tmp_path: Path):
    if os.geteuid() == 0:  # root may write anywhere but in what is no real file system
        closed = Path("/proc/self")
    else:
        closed = tmp_path
        closed.chmod(0o555)
    try:
        for root in (closed, closed / "run"):
            with pytest.raises(UsageError, match=r"cannot write the run folder .*: .*; choose another --out"):
                RunFolder(root).claim()
    finally:
        tmp_path.chmod(0o755)


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="cannot write the run folder"):
            RunFolder(root).claim()


def test_artifacts_are_named_relative_to_the_folder(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    assert folder.relative(folder.candidate("0123456789-0")) == "candidates/0123456789-0/model.onnx"
    assert folder.relative(folder.reference) == "reference/model.onnx"


# -- front.json --------------------------------------------------------------------------------------------------------


def test_front_is_written_and_read(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.write_front({"schema": 1, "task": "ünï", "candidates": []})
    assert read_front(tmp_path) == {"schema": 1, "task": "ünï", "candidates": []}
    assert json.loads((tmp_path / "front.json").read_text())["schema"] == 1


def test_front_is_valid_json_or_stays_as_it_was(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.write_front({"schema": 1})
    with pytest.raises(ValueError, match="JSON"):
        folder.write_front({"schema": 1, "latency_ms": float("nan")})
    assert read_front(tmp_path) == {"schema": 1}


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, r"no run in .* \(No such file or directory\): give the --out folder of a search"),
        ("{", r"front\.json is not JSON"),
        (b"\xff\xfe", r"front\.json is not JSON"),
        ("[1]", r"is not a front of schema 1"),
        ('{"schema": 2}', r"is not a front of schema 1"),
        ('{"task": "x"}', r"is not a front of schema 1"),
    ],
    ids=["none", "cut short", "no text", "no object", "newer", "no schema"],
)
def test_what_is_no_front_is_refused(content: str | bytes | None, cause: str, tmp_path: Path):
    if content is not None:
        (tmp_path / "front.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=cause) as caught:
        read_front(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    kept = [folder.stored / "weights-0123.safetensors", folder.candidate("0123456789-0"), folder.reference]
    left = [
        folder.stored / ".weights-0123-ab12.safetensors",
        folder.candidate("0123456789-0").with_name(".model-x1y2.onnx"),
        folder.stored / "scratch" / "77" / "float.onnx",
        folder.root / ".front-zz.json",
    ]
    for path in (*kept, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    folder.claim()
    folder.release()
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in left)

"""A reader sees the old file or the new one, whenever the writer is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autocompress.errors import AutocompressError
from autocompress.storage.atomic import copy_file, replacing, write_text


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_failure_in_the_middle_leaves_the_old_file_and_no_temporary(tmp_path: Path):
    path = tmp_path / "front.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="in the middle"), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["front.json"]


def test_failure_in_the_middle_of_a_first_write_leaves_nothing(tmp_path: Path):
    path = tmp_path / "deep" / "model.onnx"
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert names(path.parent) == []


def test_old_file_stays_readable_until_the_new_one_is_whole(tmp_path: Path):
    path = tmp_path / "front.json"
    write_text(path, "old")
    with path.open() as reader:
        with replacing(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
            assert temporary.parent == path.parent  # a rename across file systems is a copy
            assert temporary.suffix == ".json"
        assert path.read_text() == "new"
        assert reader.read() == "old"  # renamed into place, not written over


def test_kill_in_the_middle_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "front.json"
    write_text(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from autocompress.storage.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half of the n')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_new_files_are_readable_by_others(tmp_path: Path):
    write_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_what_is_in_the_way_is_told_and_not_the_free_space(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for path, cause in (
        (tmp_path / "folder", "Is a directory"),
        (tmp_path / "file" / "a.txt", "(Not a dir|File ex).*"),
    ):
        with pytest.raises(
            AutocompressError, match=rf"^cannot write {path}: {cause}; move away what is there or choose"
        ):
            write_text(path, "text")


def test_disk_full_names_the_path_and_the_free_space(tmp_path: Path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(
            AutocompressError, match=r"cannot write .*a\.txt: No space left on device \(\d+ MiB free\); make room"
        ),
        replacing(tmp_path / "a.txt"),
        full.open("wb", buffering=0) as file,
    ):
        file.write(b"x")
    assert names(tmp_path) == []


def test_folder_that_cannot_be_made_is_told_as_a_path_problem(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AutocompressError, match="cannot write"):
        write_text(tmp_path / "file" / "report.html", "text")


def test_copied_file_is_whole(tmp_path: Path):
    (tmp_path / "a").write_bytes(bytes(range(256)) * 100)
    copy_file(tmp_path / "a", tmp_path / "made" / "b")
    assert (tmp_path / "made" / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_folder_of_a_run_that_was_removed_is_not_made_again_and_told(tmp_path: Path):
    gone = tmp_path / "run"
    with pytest.raises(AutocompressError, match=r"cannot write .*run/store/a\.json: its folder was removed meanwhile"):
        write_text(gone / "store" / "a.json", "{}")
    assert not gone.exists()

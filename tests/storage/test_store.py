"""The store: a reader sees the old file or the new one, and what was cut short counts as missing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autocompress.errors import AutocompressError
from autocompress.storage.store import Store, copy_file, replacing, write_text


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_tensors_come_back_as_they_were(store: Store):
    tensors = {
        "weight": torch.randn(3, 4),
        "view": torch.randn(4, 3).t(),
        "steps": torch.tensor(7),
        "half": torch.randn(2).to(torch.bfloat16),
        "empty": torch.zeros(0, 3),
        "mask": torch.tensor([True, False]),
    }
    tensors["shared"] = tensors["weight"]  # safetensors alone refuses shared memory
    store.save("a", tensors)
    loaded = store.load("a")
    assert loaded is not None
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_saving_needs_no_graph(store: Store):
    store.save("a", {"w": torch.ones(2, requires_grad=True) * 2})
    assert store.load("a")["w"].tolist() == [2, 2]


def test_missing_entry_is_none(store: Store):
    assert store.load("nothing") is None


def test_key_tells_kinds_and_parts_apart(store: Store):
    keys = [
        store.key("weights", "f", 1),
        store.key("weights", "f", 2),
        store.key("val", "f", 1),
        store.key("weights", "f1"),
    ]
    assert len(set(keys)) == 4
    assert store.key("weights", "f", {"b": 1, "a": 2}) == store.key("weights", "f", {"a": 2, "b": 1})


@pytest.mark.parametrize("kept", [0, 5, 60, -1], ids=["empty", "in the length", "in the header", "in the data"])
def test_truncated_entry_counts_as_missing_and_can_be_saved_again(kept: int, store: Store):
    store.save("a", {"w": torch.arange(100.0)})
    path = store.path("a")
    path.write_bytes(path.read_bytes()[:kept])
    assert store.load("a") is None
    store.save("a", {"w": torch.arange(3.0)})
    assert store.load("a")["w"].tolist() == [0, 1, 2]


def test_altered_entry_counts_as_missing_and_is_said_so(tmp_path: Path):
    said: list[str] = []
    store = Store(tmp_path, said.append)
    store.save("a", {"w": torch.arange(100.0)})
    content = bytearray(store.path("a").read_bytes())
    content[-1] ^= 1
    store.path("a").write_bytes(content)
    assert store.load("a") is None
    assert said == [f"{store.path('a')} cannot be used: its content was altered"]


def test_entry_of_another_version_counts_as_missing_and_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    store = Store(tmp_path, said.append)
    with monkeypatch.context() as patch:
        patch.setattr("autocompress.storage.store.VERSION", "0")
        store.save("a", {"w": torch.ones(2)})
        store.save_json("b", {"kept": [1]})
    assert store.load("a") is None
    assert store.load_json("b") is None
    assert "version 0 wrote it, this one reads 1" in said[0]
    assert len(said) == 2


def test_plans_come_back_as_they_were_and_altered_ones_do_not(store: Store):
    plan = {"remove": {"conv": [0, 3, 5]}, "seed": None}
    store.save_json("plan-a", plan)
    assert store.load_json("plan-a") == plan
    assert store.load_json("plan-b") is None
    path = store.root / "plan-a.json"
    path.write_text(path.read_text().replace("5", "6"))
    assert store.load_json("plan-a") is None
    path.write_text("{")
    assert store.load_json("plan-a") is None


def test_least_recently_used_entries_go_first_and_kept_ones_stay(store: Store):
    for number, name in enumerate("abcd"):
        store.save(f"weights-{name}", {"w": torch.zeros(1000)})
        os.utime(store.path(f"weights-{name}"), (number, number))
    each = store.path("weights-a").stat().st_size
    assert store.load("weights-b") is not None  # used just now
    assert store.trim(4 * each, ()) == 0
    assert store.trim(2 * each, {"weights-a"}) == 2
    assert [store.load(f"weights-{name}") is not None for name in "abcd"] == [True, True, False, False]
    assert store.trim(0, {"weights-a", "weights-b"}) == 0


def test_pickle_is_no_entry(store: Store):
    store.root.mkdir()
    torch.save({"w": torch.ones(2)}, store.path("a"))
    assert store.load("a") is None


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
        "import os, signal, sys; from pathlib import Path; from autocompress.storage.store import replacing\n"
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


def test_full_disk_while_tensors_are_saved(store: Store, monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("autocompress.storage.store.os.fsync", full)
    with pytest.raises(AutocompressError, match="No space left"):
        store.save("a", {"w": torch.ones(2)})
    assert store.load("a") is None


def test_folder_that_cannot_be_made_is_told_as_a_path_problem(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AutocompressError, match="cannot write"):
        write_text(tmp_path / "file" / "report.html", "text")


def test_copied_file_is_whole(tmp_path: Path):
    (tmp_path / "a").write_bytes(bytes(range(256)) * 100)
    copy_file(tmp_path / "a", tmp_path / "made" / "b")
    assert (tmp_path / "made" / "b").read_bytes() == (tmp_path / "a").read_bytes()

"""The store: what comes back is what was kept, and what was cut short or altered counts as missing."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autocompress.errors import AutocompressError
from autocompress.storage.store import Store

EARLIER = Path(__file__).parent.parent / "fixtures" / "finished_run"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


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


def test_entry_of_another_version_counts_as_missing_and_is_said_so(tmp_path: Path):
    said: list[str] = []
    store, older = Store(tmp_path, said.append), Store(tmp_path, version="0")
    older.save("a", {"w": torch.ones(2)})
    older.save_json("b", {"kept": [1]})
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
    a, b, c, d = keys = [store.key("weights", name) for name in "abcd"]
    for number, key in enumerate(keys):
        store.save(key, {"w": torch.zeros(1000)})
        os.utime(store.path(key), (number, number))
    each = store.path(a).stat().st_size
    assert store.load(b) is not None  # used just now
    assert store.trim(4 * each, ()) == 0
    assert store.trim(2 * each, {a}) == 2
    assert [store.load(key) is not None for key in (a, b, c, d)] == [True, True, False, False]
    assert store.trim(0, {a, b}) == 0


def test_files_of_somebody_else_are_no_entries_whatever_their_names(store: Store):
    store.save(store.key("weights", 1), {"w": torch.zeros(10)})
    store.save_json(store.key("plan", 1), {})
    Store(store.root, version="0").save_json(store.key("plan", 2), {})
    ours = set(store.root.iterdir())
    names = ("my-weights.safetensors", "notes-0123.json", "weights-of-mine.onnx", f"weights-{'1' * 20}.safetensors")
    for name in names:
        (store.root / name).write_text("mine")
    for number, text in enumerate(("{}", "[]", '{"version": "1", "value": {}}')):
        (store.root / f"plan-{number:020}.json").write_text(text)
    save_file({"w": torch.zeros(10)}, store.root / f"weights-{'2' * 20}.safetensors", metadata={"version": "1"})
    theirs = set(store.root.iterdir()) - ours
    assert set(store.entries()) == ours
    assert store.trim(0, ()) == len(ours)
    assert set(store.root.iterdir()) == theirs


def test_entries_of_an_earlier_version_are_known(tmp_path: Path):
    store = Store(shutil.copytree(EARLIER / "store", tmp_path / "store"))
    assert len(list(store.entries())) == len(list(store.root.iterdir())) == 26


def test_pickle_is_no_entry(store: Store):
    store.root.mkdir()
    torch.save({"w": torch.ones(2)}, store.path("a"))
    assert store.load("a") is None


def test_full_disk_while_tensors_are_saved(store: Store, monkeypatch: pytest.MonkeyPatch):
    def full(*args: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("autocompress.storage.store.os.fsync", full)
    with pytest.raises(AutocompressError, match="No space left"):
        store.save("a", {"w": torch.ones(2)})
    assert store.load("a") is None

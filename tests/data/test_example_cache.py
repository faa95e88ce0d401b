"""What was decoded once is read back as it was, by any process, within the room there is."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from autocompress.data import example_cache
from autocompress.data.example_cache import ExampleCache, NotKept, decoded, encoded

EXAMPLES: dict[str, Any] = {
    "pair": (torch.randn(3, 4), 7),
    "numbers": [1, -2.5, True, None, float("inf"), "name"],
    "dict": {"image": torch.arange(6, dtype=torch.uint8).reshape(2, 3), "boxes": [torch.zeros(0, 4), torch.ones(2, 4)]},
    "arrays": (np.arange(5, dtype=np.float32)[::2], np.int64(3), np.float32(0.5)),
    "no axes": torch.tensor(3),
    "half": torch.randn(3).bfloat16(),
    "flags": torch.tensor([True, False]),
}


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_an_example_is_read_back_as_it_was(example: Any, tmp_path: Path):
    assert same(decoded(bytearray(encoded(example))), example)
    cache = ExampleCache(tmp_path / "kept", 5)
    cache.put(3, example)
    assert cache.has(3)
    assert not cache.has(2)
    assert same(cache.get(3), example)


def test_what_is_read_back_may_be_changed_without_harm(tmp_path: Path):
    cache = ExampleCache(tmp_path / "kept", 1)
    cache.put(0, torch.ones(3))
    cache.get(0).zero_()
    assert torch.equal(cache.get(0), torch.ones(3))


def test_another_process_reads_what_this_one_kept(tmp_path: Path):
    ours, theirs = ExampleCache(tmp_path / "kept", 9), ExampleCache(tmp_path / "kept", 9)
    child = os.fork()
    if not child:
        try:
            for number in range(0, 9, 2):
                theirs.put(number, torch.full((number + 1,), number))
        finally:
            os._exit(0)  # also where it failed: no copy of the test run goes on
    for number in range(1, 9, 2):
        ours.put(number, torch.full((number + 1,), number))
    os.waitpid(child, 0)
    assert all(torch.equal(ours.get(n), torch.full((n + 1,), n)) for n in range(9))


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path):
    cache = ExampleCache(tmp_path / "kept", 9)
    cache.most_bytes = 2 * len(encoded(torch.zeros(100)))
    for number in range(9):
        cache.put(number, torch.zeros(100))
    assert [cache.has(number) for number in range(9)] == [True, True] + [False] * 7
    assert cache.full


def test_what_has_no_plain_form_is_refused(tmp_path: Path):
    with pytest.raises(NotKept, match="object"):
        ExampleCache(tmp_path / "kept", 1).put(0, (torch.ones(1), object()))


def test_nothing_is_left_of_what_was_discarded(tmp_path: Path):
    cache = ExampleCache(tmp_path / "kept", 1)
    cache.put(0, 1)
    cache.discard()
    assert not list(tmp_path.iterdir())


def test_caches_of_one_folder_share_half_of_what_was_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    free = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(example_cache.shutil, "disk_usage", lambda path: free)
    first = ExampleCache(tmp_path / "train", 10)
    kept = [number for number in range(4) if keeps(first, number, 200_000, free)]
    assert kept == [0, 1], "half a million"
    later = ExampleCache(tmp_path / "val", 10)  # of another split, or of a process that begins later
    assert later.most_bytes == pytest.approx(first.most_bytes, rel=1e-3)
    assert not keeps(later, 0, 200_000, free)


def keeps(cache: ExampleCache, number: int, size: int, free: SimpleNamespace) -> bool:
    cache.put(number, torch.zeros(size, dtype=torch.uint8))
    free.free -= size * cache.has(number)
    return cache.has(number)

"""How large the caches are by the system's word, and that they are filled with something else."""

import tracemalloc
from pathlib import Path

import pytest

from autocompress.machine.caches import eviction, largest_cache


def system(folder: Path, **sizes: str) -> Path:
    for index, size in sizes.items():
        cache = folder / "devices/system/cpu/cpu0/cache" / index
        cache.mkdir(parents=True)
        (cache / "size").write_text(f"{size}\n")
    return folder


@pytest.mark.parametrize(
    ("sizes", "bytes_"),
    [
        ({"index0": "32K", "index3": "16M"}, 16 << 20),
        ({"index0": "48K"}, 48 << 10),
        ({"index3": "large"}, 0),
        ({}, 0),
    ],
)
def test_the_largest_cache_is_the_one_that_counts(tmp_path: Path, sizes: dict[str, str], bytes_: int):
    assert largest_cache(system(tmp_path, **sizes)) == bytes_


@pytest.mark.parametrize(("size", "filled"), [("48M", 96 << 20), ("1M", 64 << 20)])
def test_what_fills_them_is_twice_as_large_and_not_small_where_little_is_said(tmp_path: Path, size: str, filled: int):
    tracemalloc.start()
    try:
        evict = eviction(system(tmp_path, index3=size))
        evict()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert filled <= held < 1.1 * filled

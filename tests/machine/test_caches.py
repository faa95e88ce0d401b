"""How large the caches are by the system's word, and that they are filled with something else."""

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


def test_what_fills_them_can_be_called_again_and_again(tmp_path: Path):
    evict = eviction(system(tmp_path, index3="1M"))
    evict()
    evict()

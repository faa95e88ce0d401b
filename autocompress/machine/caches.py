"""The processor's caches, emptied: what a call finds that comes after something else ran."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .cgroups import SYS, text_of

LEAST_BYTES = 32 << 20  # where the system does not say how large the last cache is
MOST_EVICTED = 512 << 20
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def eviction(sys: Path = SYS) -> Callable[[], None]:
    """What fills the caches with something else, twice as much as the largest of them holds."""
    wanted = np.zeros(min(MOST_EVICTED, 2 * max(LEAST_BYTES, largest_cache(sys))) // 8)

    def evict() -> None:
        np.add(wanted, 1.0, out=wanted)

    return evict


def largest_cache(sys: Path = SYS) -> int:
    """Bytes of the largest cache of the first processor; 0 where the system does not say."""
    found = [0]
    for path in (sys / "devices/system/cpu/cpu0/cache").glob("index*/size"):
        if size := re.fullmatch(r"(\d+)([KMG]?)", text_of(path) or ""):
            found.append(int(size[1]) * UNITS[size[2]])
    return max(found)

"""Where data is read, and within which bounds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from autocompress.machine.memory import memory_bytes
from autocompress.supervisor import tell_nobody

MEMORY_SHARE = 0.15  # of the machine's, that a split held in memory may take
MOST_IN_MEMORY = 4 << 30  # bytes, of a split


def held_in_memory() -> int:
    """Bytes that a split may take to be held in memory, whole."""
    return min(MOST_IN_MEMORY, int(MEMORY_SHARE * memory_bytes()))


@dataclass(frozen=True)
class Reading:
    """folder: where decoded examples are kept while the run lasts; None: nowhere. say: told what a user should read.
    check: a safe point, which raises Interrupted when the search is to end. whole_s: a Dataset that is read in less is
    read at once and held in memory. ends_s: within which a training stream has to end to be a set of examples;
    scored_s: one that is scored. stream_head: how many examples another process held of a training stream, 0 where it
    ended; None: to be found out. slower: times as long as that process this one may take to find that it ends.
    most_bytes: of a split that is held in memory.
    """

    folder: Path | None = None
    say: Callable[[str], None] = tell_nobody
    check: Callable[[], None] = tell_nobody
    whole_s: float = 2.0
    ends_s: float = 2.0
    scored_s: float = 10.0
    stream_head: int | None = None
    slower: float = 30.0
    most_bytes: int = field(default_factory=held_in_memory)

"""How much memory of this machine a process may use."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from .cgroups import PROC, SYS, memory_limit, text_of


def memory_bytes(proc: Path = PROC, sys: Path = SYS) -> int:
    """The machine's; less where a control group allows less, which counts for all of its processes together."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit(proc, sys)
    return there if limit is None else min(there, limit)


def resident_bytes(pid: int, proc: Path = PROC) -> int | None:
    """What a process has in memory now; None where the system does not say."""
    return _kibibytes("VmRSS", pid, proc)


def peak_bytes(pid: int, proc: Path = PROC) -> int | None:
    """The most that a process had in memory so far; None where the system does not say."""
    return _kibibytes("VmHWM", pid, proc)


def settled_bytes() -> int | None:
    """What this process has in memory, once what it needs no more is given back; None where the system does not say."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return resident_bytes(os.getpid())


def _kibibytes(name: str, pid: int, proc: Path) -> int | None:
    for line in (text_of(proc / str(pid) / "status") or "").splitlines():
        field, _, value = line.partition(":")
        if field == name:
            return int(value.split()[0]) * 1024
    return None

"""What Linux's control groups (cgroups) allow a process, in both versions of them.

The tightest limit counts, of its own group and of all those above it. In a container the groups above may not be seen;
those that are seen are looked at.
"""

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
SYS = Path("/sys")


def processor_quota(proc: Path = PROC, sys: Path = SYS) -> float | None:
    """How many processors' time this process may use, such as 1.5; None: no limit."""
    quotas: list[float] = []
    for group in _groups("cpu", proc, sys):
        quota, _, period = (text_of(group / "cpu.max") or "").partition(" ")
        if not quota:
            quota, period = (text_of(group / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(period):  # "max" and -1: no limit
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(proc: Path = PROC, sys: Path = SYS) -> int | None:
    """Bytes that this process may use together with those of its group; None: no limit."""
    names = ("memory.max", "memory.high", "memory.limit_in_bytes")
    texts = [text_of(group / name) or "" for group in _groups("memory", proc, sys) for name in names]
    return min((int(text) for text in texts if text.isdigit()), default=None)


def throttled_s(proc: Path = PROC, sys: Path = SYS) -> float:
    """Seconds for which this process's group was stopped so far, having used up its processor time."""
    found = [0.0]
    for group in _groups("cpu", proc, sys):
        for line in (text_of(group / "cpu.stat") or "").splitlines():
            name, _, value = line.partition(" ")
            if name in ("throttled_usec", "throttled_time"):
                found.append(int(value) * (1e-6 if name == "throttled_usec" else 1e-9))
    return max(found)


def text_of(path: Path) -> str | None:
    """What a file of the system says; None where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _groups(controller: str, proc: Path, sys: Path) -> Iterator[Path]:
    """The folders of this process's groups and of all above them, of the second version and of the first one's
    controller.
    """
    roots = {"": ["unified", "."], controller: [controller]}  # without a name: the second version's
    inside = {"": Path(), controller: Path()}
    for line in (text_of(proc / "self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        name = controller if controller in names.split(",") else names
        if name in inside and ".." not in path:  # above what this container sees
            inside[name] = Path(path.strip("/"))
            roots[name] = [*roots[name], *({names} - {name})]  # such as cpu,cpuacct
    for name, groups in inside.items():
        for root in roots[name]:
            for group in (groups, *groups.parents):
                yield sys / "fs/cgroup" / root / group

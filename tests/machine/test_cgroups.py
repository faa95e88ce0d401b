"""How many processors and how much memory a process may use, from what Linux tells of control groups."""

import os
from pathlib import Path

import pytest

from autocompress.machine.cgroups import memory_limit, processor_quota, throttled_s
from autocompress.machine.cores import cores
from autocompress.machine.memory import memory_bytes, peak_bytes, resident_bytes

GIB = 2**30
Files = dict[str, str]


@pytest.fixture
def linux(tmp_path: Path) -> "Linux":
    return Linux(tmp_path)


class Linux:
    """A tree of /proc and /sys. groups: what /proc/self/cgroup says. files: of /sys/fs/cgroup."""

    def __init__(self, root: Path) -> None:
        self.proc, self.sys = root / "proc", root / "sys"

    def __call__(self, files: Files, groups: str = "0::/\n") -> tuple[Path, Path]:
        texts = {self.sys / "fs/cgroup" / name: text for name, text in files.items()}
        for path, text in {**texts, self.proc / "self/cgroup": groups}.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self.proc, self.sys


NESTED = {
    "a/cpu.max": "150000 100000\n",
    "a/b/cpu.max": "400000 100000\n",
    "a/b/c/cpu.max": "max 100000\n",
    "another/cpu.max": "10000 100000\n",
}
V1 = "5:cpu,cpuacct:/docker/1f\n3:memory:/docker/1f\n0::/init.scope\n"


@pytest.mark.parametrize(
    ("files", "groups", "quota"),
    [
        ({}, "", None),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        (NESTED, "0::/a/b/c\n", 1.5),
        (NESTED, "0::/another\n", 0.1),
        ({"unified/a/cpu.max": "200000 100000\n"}, "1:cpu:/\n0::/a\n", 2.0),
        ({"cpu.max": "200000 100000\n"}, "0::/../outside\n", 2.0),
        ({"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, V1, 0.5),
        ({"cpu/docker/cpu.cfs_quota_us": "300000", "cpu/docker/cpu.cfs_period_us": "100000"}, V1, 3.0),
        ({"cpu/docker/1f/cpu.cfs_quota_us": "-1", "cpu/docker/1f/cpu.cfs_period_us": "100000"}, V1, None),
    ],
    ids=[
        "no groups",
        "v2",
        "v2 without a limit",
        "the tightest of those above",
        "not those beside",
        "both versions",
        "outside of what is seen",
        "v1, seen as its own root",
        "v1, above",
        "v1 without a limit",
    ],
)
def test_the_tightest_limit_of_processor_time_on_the_way_up_counts(
    files: Files, groups: str, quota: float | None, linux: Linux
) -> None:
    assert processor_quota(*linux(files, groups)) == quota


@pytest.mark.parametrize(("quota", "expected"), [("150000", 2), ("50000", 1), ("100000", 1), ("max", 64)])
def test_as_many_cores_are_used_as_there_is_time_for(
    quota: str, expected: int, linux: Linux, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert cores(*linux({"cpu.max": f"{quota} 100000\n"})) == expected
    assert cores(*linux({"cpu.max": "max 100000\n"}, "0::/\n")) == 64


def test_a_limit_above_what_the_machine_has_changes_nothing(linux: Linux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert cores(*linux({"cpu.max": "800000 100000\n"})) == 1
    assert memory_bytes(*linux({"memory.max": f"{2**62}\n"})) == memory_bytes(*linux({"memory.max": "max\n"}))


@pytest.mark.parametrize(
    ("files", "groups", "limit"),
    [
        ({}, "0::/\n", None),
        ({"memory.max": "max\n"}, "0::/\n", None),
        ({"a/memory.max": f"{GIB}\n", "a/b/memory.max": f"{2 * GIB}\n"}, "0::/a/b\n", GIB),
        ({"memory.max": f"{2 * GIB}\n", "memory.high": f"{GIB}\n"}, "0::/\n", GIB),
        ({"memory/docker/1f/memory.limit_in_bytes": f"{GIB}\n", "memory/memory.limit_in_bytes": f"{2**63}\n"}, V1, GIB),
    ],
    ids=["no groups", "v2 without a limit", "the tightest of those above", "where it is slowed down", "v1"],
)
def test_the_tightest_limit_of_memory_on_the_way_up_counts(
    files: Files, groups: str, limit: int | None, linux: Linux
) -> None:
    proc, sys = linux(files, groups)
    assert memory_limit(proc, sys) == limit
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_bytes(proc, sys) == min(physical, limit or physical)


def test_the_time_that_a_group_was_stopped_is_read_in_both_versions(linux: Linux) -> None:
    assert throttled_s(*linux({"a/cpu.stat": "nr_throttled 7\nthrottled_usec 2500000\n"}, "0::/a\n")) == 2.5
    assert throttled_s(*linux({"cpu/b/cpu.stat": "throttled_time 1500000000\n"}, "2:cpu:/b\n")) == 1.5


def test_memory_of_a_process_is_told_and_unknown_of_one_that_is_gone(linux: Linux) -> None:
    proc, _ = linux({})
    (proc / "7").mkdir()
    (proc / "7/status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    assert (peak_bytes(7, proc), resident_bytes(7, proc)) == (2 * 2**20, 2**20)
    assert peak_bytes(8, proc) is None

"""What a machine tells of itself, and what is said about it."""

import os
from pathlib import Path

import pytest

from autocompress.errors import UsageError
from autocompress.machine import conditions
from autocompress.machine.conditions import Conditions, Counters, Machine, machine
from autocompress.measure.conditions import advice, check_threads
from autocompress.profile import HardwareProfile

GOOD = Machine("a processor", 2, ("avx2",), None, "performance", True)


def files(root: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_machine_is_read_from_what_linux_tells(tmp_path: Path):
    proc = files(
        tmp_path / "proc", {"cpuinfo": "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni\n"}
    )
    cpu = "devices/system/cpu/"
    sys = files(
        tmp_path / "sys",
        {
            "fs/cgroup/cpu.max": "150000 100000\n",
            cpu + "cpu0/cpufreq/scaling_governor": "powersave\n",
            cpu + "intel_pstate/no_turbo": "1\n",
        },
    )
    found = machine(proc, sys)
    assert (found.processor, found.instructions) == ("Some CPU", ("avx2", "avx512_vnni"))
    assert (found.quota, found.governor, found.turbo) == (1.5, "powersave", False)


@pytest.mark.parametrize(
    ("texts", "quota"),
    [
        ({}, None),
        ({"fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
    ],
    ids=["nothing", "v2 without a limit", "v1 without a limit", "v1"],
)
def test_a_limit_of_processor_time_is_found_in_both_kinds_of_groups(
    texts: dict[str, str], quota: float | None, tmp_path: Path
):
    found = machine(tmp_path, files(tmp_path / "sys", texts))
    assert (found.quota, found.governor, found.turbo, found.processor) == (quota, None, None, "unknown")


def test_conditions_are_shares_of_the_time_between_two_moments():
    """However many processors there are: the one that lost most, and a container that was stopped."""
    one, other = Counters(10.0, (4.0, 1.0, 0.0), 100, 0.0), Counters(12.0, (4.1, 1.5, 0.0), 130, 0.2)
    found = one.until(other)
    assert (found.switches, found.throttled, found.stolen) == (15.0, pytest.approx(0.1), pytest.approx(0.25))
    assert one.until(Counters(12.0, (), 100, 16.0)).throttled == 1.0, "several threads were stopped at once"


def test_stolen_time_is_read_of_each_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stat = "cpu  1 2 3 4 5 6 7 30 9 0\ncpu0 1 2 3 4 5 6 7 10 9 0\ncpu1 1 2 3 4 5 6 7 20 9 0\nintr 5\n"
    monkeypatch.setattr(conditions, "PROC", files(tmp_path, {"stat": stat}))
    ticks = os.sysconf("SC_CLK_TCK")
    assert Counters.now().stolen_s == (10 / ticks, 20 / ticks)


@pytest.mark.parametrize(
    ("found", "conditions", "quiet", "busy", "said"),
    [
        (Machine("", 2, (), None, "powersave", None), Conditions(), 1.0, False, "cpupower frequency-set"),
        (Machine("", 2, (), 0.5, None, None), Conditions(), 1.0, False, "may use 0.5 cores and the profile takes 1"),
        (GOOD, Conditions(throttled=0.1), 1.0, False, "stopped for 10% of the time"),
        (GOOD, Conditions(stolen=0.1), 1.0, False, "gave 10% of the time to other machines"),
        (GOOD, Conditions(switches=50), 1.0, False, "50 times a second"),
        (GOOD, Conditions(), 0.1, False, "10% of the blocks were quiet"),
        (GOOD, Conditions(), 0.01, True, "too few moments were quiet"),
    ],
)
def test_what_makes_numbers_worse_is_said_with_what_would_help(
    found: Machine, conditions: Conditions, quiet: float, busy: bool, said: str
):
    (line,) = advice(found, 1, conditions, quiet, busy)
    assert said in line


def test_nothing_is_said_of_a_good_machine():
    assert advice(GOOD, 1, Conditions(load=1.0), 0.9, False) == []


def test_a_profile_of_more_threads_than_cores_is_refused():
    cores = machine().cores
    check_threads(HardwareProfile(name="all", threads=cores))
    with pytest.raises(UsageError, match=f"the profile more takes {cores + 1} threads and there are {cores} cores"):
        check_threads(HardwareProfile(name="more", threads=cores + 1))

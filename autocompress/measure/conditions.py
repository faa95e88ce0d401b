"""What a machine does beside a measurement, and what of it makes numbers worse. Linux tells, other systems less."""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from autocompress.cgroups import PROC, SYS, processor_quota, text_of, throttled_s
from autocompress.comparison import Conditions
from autocompress.cores import cores
from autocompress.errors import UsageError
from autocompress.profile import HardwareProfile

UNKNOWN = "unknown"  # a processor that the system does not name
INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "amx_int8",
    "asimddp",
    "i8mm",
    "sve",
)  # as Linux names them
SWITCHES_A_SECOND = 20.0  # involuntary ones, above which somebody else wants this core
STOLEN = 0.02  # share of time that the host gave to others
THROTTLED = 0.01  # share of time
FEW_QUIET = 0.3  # share of blocks


@dataclass(frozen=True)
class Counters:
    """What has been counted up to a moment. seconds: when. stolen_s: of each processor."""

    seconds: float
    stolen_s: tuple[float, ...]
    switches: int
    throttled_s: float

    @classmethod
    def now(cls) -> "Counters":
        return cls(time.monotonic(), _stolen_s(), resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw, throttled_s())

    def until(self, later: "Counters") -> Conditions:
        passed = max(later.seconds - self.seconds, 1e-9)
        stolen_s = [after - before for before, after in zip(self.stolen_s, later.stolen_s, strict=False)]
        return Conditions(
            load=os.getloadavg()[0],
            stolen=max(stolen_s, default=0.0) / passed,
            switches=(later.switches - self.switches) / passed,
            throttled=min(1.0, (later.throttled_s - self.throttled_s) / passed),
        )


@dataclass(frozen=True)
class Machine:
    """What stays as it is. processor: its name, or UNKNOWN. instructions: those of it that decide how fast and how
    exact int8 is. quota: how many cores' time this process may use, None: no limit. governor, turbo: None where the
    system does not say.
    """

    processor: str
    cores: int
    instructions: tuple[str, ...]
    quota: float | None
    governor: str | None
    turbo: bool | None


def machine(proc: Path = PROC, sys: Path = SYS) -> Machine:
    info = _fields(proc / "cpuinfo")
    flags = set((info.get("flags") or info.get("Features") or "").split())
    cpufreq = sys / "devices/system/cpu/cpu0/cpufreq"
    return Machine(
        processor=info.get("model name", UNKNOWN),
        cores=cores(proc, sys),
        instructions=tuple(name for name in INSTRUCTIONS if name in flags),
        quota=processor_quota(proc, sys),
        governor=text_of(cpufreq / "scaling_governor"),
        turbo=_turbo(sys),
    )


def check_threads(profile: HardwareProfile) -> None:
    """Raises UsageError where this machine has fewer cores than a profile takes threads."""
    if profile.threads > cores() and not profile.command:
        raise UsageError(
            f"the profile {profile.name} takes {profile.threads} threads and there are {cores()} cores here: threads "
            "that wait for each other say nothing about a machine that has them; give a profile with fewer threads"
        )


def advice(found: Machine, threads: int, conditions: Conditions, quiet: float, busy: bool) -> list[str]:
    """What makes numbers worse here, each with what would help. quiet: the share of quiet blocks. busy: whether there
    were too few of them.
    """
    said = []
    if found.governor not in (None, "performance"):
        said.append(
            f"the processor's frequency follows the load (governor {found.governor}): "
            "`sudo cpupower frequency-set -g performance`"
        )
    if found.quota is not None and found.quota < threads:
        said.append(
            f"this container may use {found.quota:g} cores and the profile takes {threads} threads: "
            "raise its limit of processor time"
        )
    if conditions.throttled > THROTTLED:
        said.append(
            f"this container was stopped for {conditions.throttled:.0%} of the time, having used up its share: "
            "raise its limit of processor time"
        )
    if conditions.stolen > STOLEN:
        said.append(
            f"the host gave {conditions.stolen:.0%} of the time to other machines: use one with cores of its own"
        )
    if conditions.switches > SWITCHES_A_SECOND:
        said.append(
            f"other processes took this one's core {conditions.switches:.0f} times a second: "
            "stop them, or leave a core free"
        )
    if busy:
        said.append("too few moments were quiet: what is shown is what a busy machine makes of the file")
    elif quiet < FEW_QUIET:
        said.append(f"{quiet:.0%} of the blocks were quiet: measuring takes longer, and numbers stay right")
    return said


def _fields(path: Path) -> dict[str, str]:
    """The first value of each field."""
    fields: dict[str, str] = {}
    for line in (text_of(path) or "").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields


def _stolen_s() -> tuple[float, ...]:
    """Of each processor."""
    lines = [line.split() for line in (text_of(PROC / "stat") or "").splitlines()]
    own = [values for values in lines if len(values) > 8 and values[0][:3] == "cpu" and values[0] != "cpu"]
    return tuple(int(values[8]) / os.sysconf("SC_CLK_TCK") for values in own)


def _turbo(sys: Path) -> bool | None:
    no_turbo = text_of(sys / "devices/system/cpu/intel_pstate/no_turbo")
    boost = text_of(sys / "devices/system/cpu/cpufreq/boost")
    if no_turbo is not None:
        return no_turbo == "0"
    return boost == "1" if boost is not None else None

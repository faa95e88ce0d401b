"""What a machine is, and what it does beside a measurement. Linux tells, other systems less."""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from .cgroups import PROC, SYS, processor_quota, text_of, throttled_s
from .cores import cores

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


@dataclass(frozen=True)
class Conditions:
    """What the machine did during a session. load: processes that want to run, averaged over a minute. stolen: share of
    time that the host gave to other machines. switches: how often a second others took this process's core. throttled:
    share of time that a limit of processor time stopped it. gpu_throttled: how far, as a share, the GPU's clock was
    lowered for heat or power.
    """

    load: float = 0.0
    stolen: float = 0.0
    switches: float = 0.0
    throttled: float = 0.0
    gpu_throttled: float = 0.0


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

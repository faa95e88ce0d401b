"""What an NVIDIA GPU does beside a measurement, as its driver's own tool tells."""

import subprocess
from contextlib import suppress

QUERY = "clocks.sm,clocks.max.sm,clocks_throttle_reasons.active"
TOO_HOT_OR_HUNGRY = 0x4 | 0x8 | 0x20 | 0x40 | 0x80  # of NVML's reasons: power cap, slowdown, heat, power brake
TELLS_S = 5.0


def gpu_state() -> tuple[float, float]:
    """How far, as a share, the clock of the first GPU is below its highest, and 1 where it was lowered for heat or
    power; zeros where nothing tells.
    """
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", "--id=0"]
    with suppress(OSError, subprocess.SubprocessError, ValueError, ZeroDivisionError):
        said = subprocess.run(command, capture_output=True, text=True, timeout=TELLS_S, check=True).stdout
        now, highest, reasons = said.strip().split(",")
        slowed = max(0.0, 1.0 - float(now) / float(highest))
        return slowed, float(bool(int(reasons, 16) & TOO_HOT_OR_HUNGRY))
    return 0.0, 0.0

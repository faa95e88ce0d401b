"""What an NVIDIA GPU does beside a measurement, as its driver's own tool tells."""

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

GPU_PROVIDERS = frozenset(
    f"{name}ExecutionProvider" for name in ("CUDA", "Tensorrt", "NvTensorRTRTX", "ROCM", "MIGraphX", "Dml", "WebGPU")
)
QUERY = "clocks.sm,clocks.max.sm,clocks_throttle_reasons.active"
TOO_HOT_OR_HUNGRY = 0x4 | 0x8 | 0x20 | 0x40 | 0x80  # of NVML's reasons: power cap, slowdown, heat, power brake
TELLS_S = 5.0


def gpu_throttled(work: Callable[[], object]) -> float:
    """How far, as a share, the clock of the first GPU that this process may use was lowered for heat or power; 0 where
    it was not, or nothing tells. work: done meanwhile, since an idle GPU says nothing of a busy one.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", f"--id={first}"]
    ends = time.monotonic() + TELLS_S
    with suppress(OSError, subprocess.SubprocessError, ValueError, ZeroDivisionError):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tool:
            while tool.poll() is None and time.monotonic() < ends:
                work()
            tool.kill()
            said = tool.communicate()[0]
        now, highest, reasons = said.strip().split(",")
        if int(reasons, 16) & TOO_HOT_OR_HUNGRY:
            return max(0.0, 1.0 - float(now) / float(highest))
    return 0.0

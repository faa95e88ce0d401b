"""What made the numbers of a run."""

import os
import platform
from importlib import metadata
from pathlib import Path

import onnx
import optuna
import torch

from autocompress.measure import machine
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile
from autocompress.storage.front import CUT_OFF_SUMS, EXACT_SUMS


def versions(runtime: Runtime, profile: HardwareProfile) -> dict[str, str]:
    """What made the numbers: versions, the processor, its cores, its instructions for int8 as the system lists them,
    and for a profile that runs int8, what the runtime makes of sums of such products.
    """
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.processor() or "unknown",
    )
    return {
        "autocompress": metadata.version("autocompress"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "optuna": optuna.__version__,
        runtime.name: runtime.version(),
        "platform": platform.platform(),
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "instructions": " ".join(machine().instructions),
        **(
            {"int8_sums": CUT_OFF_SUMS if runtime.saturates(profile) else EXACT_SUMS}
            if "int8" in profile.precisions
            else {}
        ),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []

"""What made the numbers of a run."""

import os
import platform
from importlib import metadata
from pathlib import Path

import onnx
import optuna
import torch

from autocompress.plugin.contract import Runtime


def versions(runtime: Runtime) -> dict[str, str]:
    """What made the numbers: versions, the processor, its cores."""
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
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []

"""Where the benchmarks write, and what their numbers were taken on."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import plots

FOLDER = Path(__file__).parent / "results"


def write(name: str, document: dict[str, Any]) -> Path:
    """``benchmarks/results/<name>.json``, with the machine and the versions in it, and its plot as ``<name>.svg``."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **document}, indent=1) + "\n", "utf-8")
    print(path)
    plots.draw(path)
    return path


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return document


def machine() -> dict[str, Any]:
    import onnxruntime
    import optuna
    import torch

    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "unknown")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "optuna": optuna.__version__,
        "commit": commit.stdout.strip(),
    }

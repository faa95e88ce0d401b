"""What made the numbers of a run."""

import platform
from importlib import metadata

import onnx
import optuna
import torch

from autocompress.machine.conditions import machine
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile
from autocompress.storage.front import CUT_OFF_SUMS, EXACT_SUMS


def versions(runtime: Runtime, profile: HardwareProfile) -> dict[str, str]:
    """What made the numbers: versions, the processor, its cores, its instructions for int8 as the system lists them,
    and for a profile that runs int8, what the runtime makes of sums of such products.
    """
    here = machine()
    return {
        "autocompress": metadata.version("autocompress"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "optuna": optuna.__version__,
        runtime.name: runtime.version(),
        "platform": platform.platform(),
        "cpu": here.processor,
        "cores": str(here.cores),
        "instructions": " ".join(here.instructions),
        **(
            {"int8_sums": CUT_OFF_SUMS if runtime.saturates(profile) else EXACT_SUMS}
            if "int8" in profile.precisions
            else {}
        ),
    }

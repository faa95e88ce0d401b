"""What a call costs where nothing is computed."""

import tempfile
from pathlib import Path

import numpy as np

from autocompress.machine.onnx_session import NOTHING
from autocompress.measure.outputs import running
from autocompress.measure.timing import timed_call
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile

CALLS = 400
MOSTLY = 2.0  # times the overhead, below which a file is hardly more than that


def call_overhead_ms(runtime: Runtime, profile: HardwareProfile) -> float:
    """Milliseconds of one call of a file that hands on a single number, with inputs and outputs bound as they are where
    models are timed; 0 on a device elsewhere, where that is not timed. Raises CandidateFailed when the runtime cannot
    run it.
    """
    if profile.elsewhere:
        return 0.0
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder, running():
        path = Path(folder) / "nothing.onnx"
        path.write_bytes(NOTHING)
        call = timed_call(runtime, runtime.open(path, profile), [{"x": np.zeros(1, np.float32)}])
        return float(np.median([call() for _ in range(CALLS)]))

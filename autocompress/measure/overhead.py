"""What a call costs where nothing is computed."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

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
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("input", "output")]
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["output"])], "nothing", ends[:1], ends[1:])
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder, running():
        path = Path(folder) / "nothing.onnx"
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
        call = timed_call(runtime, runtime.open(path, profile), [{"input": np.zeros(1, np.float32)}])
        return float(np.median([call() for _ in range(CALLS)]))

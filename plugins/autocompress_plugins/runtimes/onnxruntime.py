"""ONNX Runtime on this machine's processor, threads pinned."""

import json
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from autocompress.errors import CandidateFailed, one_line
from autocompress.plugin.contract import Array, Feed, OperatorTime, Runtime, Session
from autocompress.plugin.hooks import hookimpl
from autocompress.plugin.saturation import write_product
from autocompress.profile import HardwareProfile
from autocompress_plugins.unsigned_weights import with_unsigned_weights

autocompress_api = 2

WARM_UP_CALLS = 10  # calls of a profile that do not count
FEWEST_PROFILED, MOST_PROFILED, SECONDS = 20, 200, 2.0  # of a profile
KERNEL = "_kernel_time"
INSTALL_GPU = "pip install onnxruntime-gpu in place of onnxruntime"
FIXES = {"CUDAExecutionProvider": INSTALL_GPU, "TensorrtExecutionProvider": f"{INSTALL_GPU}, and TensorRT"}
CPU = "CPUExecutionProvider"
AROUND = frozenset({"If", "Loop", "Scan"})  # their time is that of the nodes inside


class OrtSession(Session):
    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._names = [i.name for i in session.get_inputs()]

    @property
    def input_names(self) -> Sequence[str]:
        return self._names

    def run(self, feed: Feed) -> Sequence[Array]:
        return self._session.run(None, feed)  # type: ignore[no-any-return]

    def bound(self, feed: Feed) -> Callable[[], object]:
        binding = self._session.io_binding()
        for name in self._names:
            binding.bind_cpu_input(name, np.asarray(feed[name], order="C"))
        for output in self._session.get_outputs():
            binding.bind_output(output.name)
        return partial(self._session.run_with_iobinding, binding)


class OnnxRuntime(Runtime):
    name = "onnxruntime"
    # On a processor float16 is converted to float32 and back around the operators: 0.85 to 1.0 times the speed of
    # float32 where it was measured (AVX-512).
    faster_with = frozenset()

    def unavailable(self, profile: HardwareProfile) -> str | None:
        if profile.provider not in ort.get_available_providers():
            fix = FIXES.get(profile.provider, f"known here: {', '.join(ort.get_available_providers())}")
            return f"the installed onnxruntime has no {profile.provider}: {fix}"
        if profile.provider == CPU:
            return None
        with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
            write_product(Path(folder) / "product.onnx")
            try:
                _session(Path(folder) / "product.onnx", _options(profile), profile.provider)
            except CandidateFailed as error:
                return error.reason
        return None

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return OrtSession(_session(path, _options(profile), profile.provider))

    def exact(self, path: Path, profile: HardwareProfile) -> Session | None:
        """Without graph optimizations QDQ nodes are computed in float; int8 operators that are in the file itself are
        given unsigned weights, whose sums are exact on any processor.
        """
        options = _options(profile)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
            copy = Path(folder) / path.name
            onnx.save(with_unsigned_weights(onnx.load(str(path))), str(copy))
            try:
                return OrtSession(_session(copy, options, profile.provider))
            except CandidateFailed:
                return None

    def operators(self, path: Path, profile: HardwareProfile, feeds: Sequence[Feed]) -> Sequence[OperatorTime]:
        options = _options(profile)
        options.enable_profiling = True
        with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = _session(path, options, profile.provider)
            started = time.monotonic()
            for number in range(WARM_UP_CALLS + MOST_PROFILED):
                if number >= WARM_UP_CALLS + FEWEST_PROFILED and time.monotonic() - started > SECONDS:
                    break
                session.run(None, feeds[number % len(feeds)])
            events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        return operator_times(events, WARM_UP_CALLS)

    def version(self) -> str:
        return str(ort.__version__)


def _options(profile: HardwareProfile) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = profile.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for name, value in profile.options.items():
        options.add_session_config_entry(name, str(int(value) if isinstance(value, bool) else value))
    return options


def _session(path: Path, options: ort.SessionOptions, provider: str) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime has no common base for what it raises
        raise CandidateFailed(f"ONNX Runtime cannot load the file: {one_line(error, 200)}") from error
    if provider not in session.get_providers():  # it goes on with another one, silently
        raise CandidateFailed(f"{provider} does not work here: a device, its driver or a library of its is missing")
    return session


def operator_times(events: Sequence[Mapping[str, Any]], warm_up: int) -> list[OperatorTime]:
    """The time of each node: its median over the calls that a profile holds after the first ``warm_up``."""
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")
    nodes: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(KERNEL) and event["args"]["op_name"] not in AROUND:
            calls = nodes.setdefault((_layer(event["name"]), event["args"]["op_name"]), [0.0] * len(starts))
            calls[bisect_right(starts, event["ts"]) - 1] += event["dur"] / 1e3
    medians = {node: median(calls[warm_up:]) for node, calls in nodes.items()}
    total = max(sum(medians.values()), 1e-9)
    return [OperatorTime(name, operator, ms, ms / total) for (name, operator), ms in medians.items()]


def _layer(event: str) -> str:
    """A node's name without what the profile and the fusions of ONNX Runtime append to it."""
    return event.removesuffix(KERNEL).removesuffix("_nchwc").removesuffix("_output_0")


@hookimpl
def autocompress_runtimes() -> list[Runtime]:
    return [OnnxRuntime()]

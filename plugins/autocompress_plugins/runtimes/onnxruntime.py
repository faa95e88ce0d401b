"""ONNX Runtime on this machine's processor, threads pinned."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import onnxruntime as ort

from autocompress.errors import CandidateFailed, one_line
from autocompress.plugin.contract import Array, Feed, OperatorTime, Runtime, Session
from autocompress.plugin.hooks import hookimpl
from autocompress.profile import HardwareProfile

WARM_UP = 20  # calls before those that are profiled
PROFILED = 100


class OrtSession(Session):
    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._names = [i.name for i in session.get_inputs()]

    @property
    def input_names(self) -> Sequence[str]:
        return self._names

    def run(self, feed: Feed) -> Sequence[Array]:
        return self._session.run(None, feed)  # type: ignore[no-any-return]


class OnnxRuntime(Runtime):
    name = "onnxruntime"

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return OrtSession(_session(path, _options(profile)))

    def operators(self, path: Path, profile: HardwareProfile, feeds: Sequence[Feed]) -> Sequence[OperatorTime]:
        options = _options(profile)
        options.enable_profiling = True
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = _session(path, options)
            for number in range(WARM_UP + PROFILED):
                session.run(None, feeds[number % len(feeds)])
            events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        took: dict[tuple[str, str], list[float]] = defaultdict(list)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                node = event["name"].removesuffix("_kernel_time")
                took[node, event["args"]["op_name"]].append(event["dur"] / 1e3)
        medians = {key: median(calls[WARM_UP:]) for key, calls in took.items() if len(calls) > WARM_UP}
        total = sum(medians.values()) or 1.0
        return [OperatorTime(name, operator, ms, ms / total) for (name, operator), ms in medians.items()]

    def version(self) -> str:
        return str(ort.__version__)


def _options(profile: HardwareProfile) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = profile.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def _session(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common base for what it raises
        raise CandidateFailed(f"ONNX Runtime cannot load the file: {one_line(error, 200)}") from error


@hookimpl
def autocompress_runtimes() -> list[Runtime]:
    return [OnnxRuntime()]

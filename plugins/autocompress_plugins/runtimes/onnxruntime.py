"""ONNX Runtime on this machine's processor, threads pinned."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from autocompress.errors import CandidateFailed, one_line
from autocompress.plugin.contract import Array, Feed, Runtime, Session
from autocompress.plugin.hooks import hookimpl
from autocompress.profile import HardwareProfile


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
        options = ort.SessionOptions()
        options.intra_op_num_threads = profile.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return OrtSession(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
        except Exception as error:  # ONNX Runtime has no common base for what it raises
            raise CandidateFailed(f"ONNX Runtime cannot load the file: {one_line(error, 200)}") from error

    def version(self) -> str:
        return str(ort.__version__)


@hookimpl
def autocompress_runtimes() -> list[Runtime]:
    return [OnnxRuntime()]

"""ONNX Runtime on this machine's processor, threads pinned."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime as ort

from autocompress.errors import CandidateFailed, one_line
from autocompress.machine.onnx_session import (
    CannotLoad,
    affinity_entries,
    bound_call,
    node_times,
    open_session,
    session_options,
)
from autocompress.plugin.contract import Array, Feed, OperatorTime, Runtime, Session
from autocompress.plugin.hooks import hookimpl
from autocompress.plugin.saturation import write_product
from autocompress.profile import HardwareProfile
from autocompress_plugins.unsigned_weights import with_unsigned_weights

autocompress_api = 2

INSTALL_GPU = "pip install onnxruntime-gpu in place of onnxruntime"
FIXES = {"CUDAExecutionProvider": INSTALL_GPU, "TensorrtExecutionProvider": f"{INSTALL_GPU}, and TensorRT"}


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
        return bound_call(self._session, feed)


class OnnxRuntime(Runtime):
    name = "onnxruntime"

    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        # On a processor float16 is converted to float32 and back around the operators: 0.85 to 1.0 times the speed of
        # float32 where it was measured (AVX-512).
        return super().faster_with(profile) if profile.on_gpu else frozenset()

    def can_fork(self, profile: HardwareProfile) -> bool:
        return not profile.on_gpu  # a GPU's driver does not outlive a fork, and takes long to start

    def affinity(self, profile: HardwareProfile, processors: Sequence[int]) -> Mapping[str, str]:
        return affinity_entries(profile.options, processors)

    def unavailable(self, profile: HardwareProfile) -> str | None:
        if profile.provider not in ort.get_available_providers():
            fix = FIXES.get(profile.provider, f"known here: {', '.join(ort.get_available_providers())}")
            return f"the installed onnxruntime has no {profile.provider}: {fix}"
        if not profile.on_gpu:
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
        try:
            nodes = node_times(path, _options(profile), profile.provider, feeds)
        except CannotLoad as error:
            raise CandidateFailed(one_line(error)) from error
        total = max(sum(nodes.values()), 1e-9)
        return [OperatorTime(name, operator, ms, ms / total) for (name, operator), ms in nodes.items()]

    def version(self) -> str:
        return str(ort.__version__)


def _options(profile: HardwareProfile) -> ort.SessionOptions:
    return session_options(profile.threads, profile.options)


def _session(path: Path, options: ort.SessionOptions, provider: str) -> ort.InferenceSession:
    try:
        return open_session(path, options, provider)
    except CannotLoad as error:
        raise CandidateFailed(one_line(error)) from error


@hookimpl
def autocompress_runtimes() -> list[Runtime]:
    return [OnnxRuntime()]

"""OpenVINO on this machine's processor, threads pinned, computing in float32 where nothing else is asked for.

A profile's ``options`` are properties of OpenVINO's CPU plug-in, such as ``INFERENCE_PRECISION_HINT = "bf16"``.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from autocompress.errors import CandidateFailed, one_line
from autocompress.plugin.contract import Array, Feed, OperatorTime, Runtime, Session
from autocompress.plugin.hooks import hookimpl
from autocompress.profile import HardwareProfile

autocompress_api = 2

DEVICE = "CPU"
PROFILED = 50  # calls of a profile


@cache
def _core(process: int) -> Any:
    """The one of a process, which stays until its end: the CPU plug-in of each puts a stack for the handlers of signals
    in place of the one before, and of two that end in the order they came in, the second puts back what the first has
    freed; the next signal then ends the process (openvino 2026.4). A copy of a process has none of its threads, and
    begins with its own.
    """
    import openvino

    return openvino.Core()


class OpenVinoSession(Session):
    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._types = [np.dtype(i.element_type.to_dtype()) for i in compiled.inputs]

    @property
    def input_names(self) -> Sequence[str]:
        return [i.any_name for i in self._compiled.inputs]

    def run(self, feed: Feed) -> Sequence[Array]:
        self._give(self._request, feed)
        found = self._request.infer()
        return [np.array(found[output]) for output in self._compiled.outputs]

    def bound(self, feed: Feed) -> Callable[[], object]:
        request = self._compiled.create_infer_request()
        self._give(request, feed)
        infer: Callable[[], object] = request.infer
        return infer

    def profiled(self, feed: Feed) -> list[tuple[str, str, float]]:
        """The name, operator and milliseconds of each node that one call ran."""
        self.run(feed)
        ran = self._request.get_profiling_info()
        return [(node.node_name, node.node_type, node.real_time.total_seconds() * 1e3) for node in ran]

    def _give(self, request: Any, feed: Feed) -> None:
        from openvino import Tensor

        for number, (name, kind) in enumerate(zip(self.input_names, self._types, strict=True)):
            request.set_input_tensor(number, Tensor(np.ascontiguousarray(feed[name], kind), shared_memory=False))


@contextmanager
def _refused() -> Iterator[None]:
    """Raises CandidateFailed for what OpenVINO cannot read or compile."""
    try:
        yield
    except RuntimeError as error:  # what it raises for everything
        last = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
        raise CandidateFailed(f"OpenVINO cannot load the file: {one_line(' '.join(last) or error, 200)}") from error


class OpenVino(Runtime):
    name = "openvino"

    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        return frozenset()  # float16 stores weights that compute in float32; zeros multiply as any others do

    def unavailable(self, profile: HardwareProfile) -> str | None:
        try:
            import openvino  # noqa: F401 (once for all copies of this process)
        except ImportError as error:
            return f"openvino cannot be imported ({one_line(error, 80)}): pip install 'autocompress[openvino]'"
        return None

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return self._opened(path, profile)

    def operators(self, path: Path, profile: HardwareProfile, feeds: Sequence[Feed]) -> Sequence[OperatorTime]:
        session = self._opened(path, profile, PERF_COUNT=True)
        calls = [session.profiled(feeds[number % len(feeds)]) for number in range(PROFILED)]
        medians = {
            (name, kind): float(np.median([ms for _, _, ms in node]))
            for node in zip(*calls, strict=True)
            for name, kind, _ in node[:1]
        }
        total = max(sum(medians.values()), 1e-9)
        return [OperatorTime(name, kind, ms, ms / total) for (name, kind), ms in medians.items() if ms > 0]

    def artifact(self, path: Path, profile: HardwareProfile, stem: Path) -> Sequence[Path]:
        """The model as OpenVINO's IR: ``stem`` with .xml and .bin."""
        import openvino

        files = stem.with_suffix(".xml"), stem.with_suffix(".bin")
        with _refused():  # its own converter, beside which a report goes to its authors, is not needed for that
            openvino.save_model(_core(os.getpid()).read_model(path), str(files[0]), compress_to_fp16=False)
        return files

    def version(self) -> str:
        try:
            return version("openvino")
        except PackageNotFoundError:
            return "not installed"

    @staticmethod
    def _opened(path: Path, profile: HardwareProfile, **further: Any) -> OpenVinoSession:
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": profile.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # a session moves its thread itself
            "INFERENCE_PRECISION_HINT": "f32",  # the default on some processors is bfloat16, whose outputs differ
        }
        options |= {**profile.options, **further}
        with _refused():
            core = _core(os.getpid())
            return OpenVinoSession(core.compile_model(core.read_model(path), DEVICE, options))


@hookimpl
def autocompress_runtimes() -> list[Runtime]:
    return [OpenVino()]

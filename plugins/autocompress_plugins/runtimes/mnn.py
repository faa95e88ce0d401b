"""MNN, a runtime for small devices (Jiang et al., "MNN: A Universal and Efficient Inference Engine", MLSys 2020, arXiv
2002.12418), on this machine's processor.

It runs files of its own format, which an ONNX file is converted to first. A profile's ``options`` are those of MNN's
runtime: ``precision`` ("high", "normal", "low"), ``memory`` and ``power``.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from autocompress.errors import CandidateFailed, one_line
from autocompress.plugin.contract import Array, Feed, Runtime, Session
from autocompress.plugin.hooks import hookimpl
from autocompress.profile import HardwareProfile

autocompress_api = 2

# The converter's own module; ``MNN.tools`` around it installs packages and reports to its authors when it is imported.
CONVERT = "import _tools, sys; _tools.mnnconvert(sys.argv)"
LIMIT_S = 120.0
CONVERTED = 32  # converted files of a process, at most; each is opened again for every session
NO_INT64 = {np.dtype(np.int64): np.dtype(np.int32), np.dtype(np.bool_): np.dtype(np.int32)}


class MnnSession(Session):
    def __init__(self, module: Any, inputs: Sequence[str]) -> None:
        self._module = module
        self._inputs = inputs

    @property
    def input_names(self) -> Sequence[str]:
        return self._inputs

    def run(self, feed: Feed) -> Sequence[Array]:
        from MNN import expr

        found = self._module.forward(self._variables(feed))
        return [np.array(expr.convert(output, expr.NCHW).read()) for output in found]

    def bound(self, feed: Feed) -> Callable[[], object]:
        variables, forward = self._variables(feed), self._module.forward

        def call() -> object:
            return [output.read() for output in forward(variables)]  # it may compute only when it is read

        return call

    def _variables(self, feed: Feed) -> list[Any]:
        from MNN import expr

        kinds = {np.dtype(np.float32): expr.float, np.dtype(np.int32): expr.int, np.dtype(np.uint8): expr.uint8}
        variables = []
        for name in self._inputs:
            value = np.ascontiguousarray(feed[name])
            value = value.astype(NO_INT64.get(value.dtype, value.dtype), copy=False)
            if value.dtype not in kinds:
                raise CandidateFailed(f"MNN takes no input of {value.dtype}")
            variables.append(expr.const(value, list(value.shape), expr.NCHW, kinds[value.dtype]))
        return variables


class Mnn(Runtime):
    name = "mnn"

    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        return frozenset()  # on a processor without float16 arithmetic

    def can_fork(self, profile: HardwareProfile) -> bool:
        return False  # each copy of the process would convert the file again

    def unavailable(self, profile: HardwareProfile) -> str | None:
        if importlib.util.find_spec("MNN") is None:
            return "MNN is not installed: pip install 'autocompress[mnn]'"
        return None

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        try:
            graph = onnx.load(str(path), load_external_data=False).graph
        except Exception as error:  # protobuf's own
            raise CandidateFailed(f"the file is no ONNX model: {one_line(error, 100)}") from error
        constants = {tensor.name for tensor in graph.initializer}
        inputs = [i.name for i in graph.input if i.name not in constants]
        with _quietly():
            from MNN import nn

            how = {"backend": "CPU", "precision": "high", **profile.options, "numThread": profile.threads}
            manager = nn.create_runtime_manager((how,))
            names = inputs, [output.name for output in graph.output]
            with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
                file = Path(folder) / "model.mnn"
                file.write_bytes(_converted(path, path.stat().st_mtime_ns, path.stat().st_size))
                module = nn.load_module_from_file(str(file), *names, runtime_manager=manager)
        if module is None:
            raise CandidateFailed("MNN cannot load the file that it was converted to")
        return MnnSession(module, inputs)

    def artifact(self, path: Path, profile: HardwareProfile, stem: Path) -> Sequence[Path]:
        """The model in MNN's format: ``stem`` with .mnn."""
        target = stem.with_suffix(".mnn")
        _convert(path, target)
        return (target,)

    def version(self) -> str:
        try:
            return version("MNN")
        except PackageNotFoundError:
            return "not installed"


@lru_cache(maxsize=CONVERTED)
def _converted(path: Path, modified_ns: int, size: int) -> bytes:
    """A file in MNN's format. modified_ns, size: of the file, which is another one when they change."""
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        target = Path(folder) / "model.mnn"
        _convert(path, target)
        return target.read_bytes()


def _convert(path: Path, target: Path) -> None:
    """In a process of its own, which may crash. Raises CandidateFailed with what the converter says."""
    command = [sys.executable, "-c", CONVERT, "-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(target)]
    try:
        ended = subprocess.run(
            [*command, "--bizCode", "autocompress"], capture_output=True, text=True, errors="replace", timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise CandidateFailed(f"MNN's converter took longer than {LIMIT_S:.0f} s") from error
    if not ended.returncode and target.exists():
        return
    said = [line for line in (ended.stdout + ended.stderr).splitlines() if "Not Support" in line or "rror" in line]
    reason = one_line(said[0].rpartition("] ")[2], 200) if said else f"exit code {ended.returncode}"
    raise CandidateFailed(f"MNN cannot convert the file: {reason}")


@contextmanager
def _quietly() -> Iterator[None]:
    """MNN prints what the processor can do to the standard output, which may be read by a program."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@hookimpl
def autocompress_runtimes() -> list[Runtime]:
    return [Mnn()]

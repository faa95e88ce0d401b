"""What opens ONNX files on a target and runs them."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from autocompress.data import Array, Feed
from autocompress.errors import CandidateFailed
from autocompress.plugin.saturation import is_exact, write_product
from autocompress.profile import HardwareProfile


class Session(ABC):
    """An opened model, ready to run."""

    @property
    @abstractmethod
    def input_names(self) -> Sequence[str]:
        """Names of the graph's inputs, in order."""

    @abstractmethod
    def run(self, feed: Feed) -> Sequence[Array]:
        """Run one call and return the outputs in order."""

    def run_all(self, feeds: Sequence[Feed]) -> Iterator[Sequence[Array]]:
        """The outputs of several calls, in their order. What runs elsewhere makes them together."""
        return map(self.run, feeds)

    def bound(self, feed: Feed) -> Callable[[], object]:
        """One call on these inputs, to be made many times: what is timed. A runtime that can bind inputs and outputs
        beforehand keeps what Python adds to a call out of it.
        """
        return lambda: self.run(feed)


@dataclass(frozen=True)
class OperatorTime:
    """One node of a graph: milliseconds of one call, and its share of the whole, 0..1."""

    name: str
    operator: str
    ms: float
    share: float


class Runtime(ABC):
    """Opens ONNX files on a target. Latency is what a caller of ``Session.bound``'s call waits."""

    name: str

    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        """What may make a call faster beside fewer operations: "float16"; "zeros", weights most of which are zero;
        "few_values", weights that take a few values only. What is not among them saves size alone. For most targets
        the default holds: dense kernels multiply by any number alike.
        """
        return frozenset({"float16"})

    def can_fork(self, profile: HardwareProfile) -> bool:
        """Whether files are opened and run in a copy of the process too, in which only the calling thread goes on;
        nothing was opened before in the process itself.
        """
        return True

    @abstractmethod
    def open(self, path: Path, profile: HardwareProfile) -> Session:
        """Load ``path`` with the profile's threads pinned. Raises CandidateFailed when the runtime cannot."""

    def affinity(self, profile: HardwareProfile, processors: Sequence[int]) -> Mapping[str, str | bool | int | float]:
        """Options beside the profile's own with which ``open`` keeps each thread that computes beside the calling one
        on one of ``processors``, by the system's numbers, one less than the profile's threads. The calling thread stays
        on another one meanwhile. None where the runtime cannot, or where the profile's options place its threads: then
        all are left to the system.
        """
        return {}

    def unavailable(self, profile: HardwareProfile) -> str | None:
        """Why nothing can be run with this profile here, in one line with the fix, such as a package that is not
        installed; None when it can.
        """
        return None

    def artifact(self, path: Path, profile: HardwareProfile, stem: Path) -> Sequence[Path]:
        """Write an ONNX file in the runtime's own format: files that begin like ``stem``, which has no suffix, to be
        delivered beside it. None where it runs ONNX files as they are. Raises CandidateFailed when it cannot.
        """
        return ()

    def version(self) -> str:
        return "unknown"

    def clock(self, session: Session, feed: Feed) -> float | None:
        """Milliseconds of one call on the target's own clock (a remote device, a fake); None: time
        ``Session.bound`` here.
        """
        return None

    def operators(self, path: Path, profile: HardwareProfile, feeds: Sequence[Feed]) -> Sequence[OperatorTime] | None:
        """Where the time of a file goes, by the runtime's own profile; None when it keeps none."""
        return None

    def saturates(self, profile: HardwareProfile) -> bool:
        """Whether sums of int8 products are cut off at 16 bits on the target: there a file with weights of eight bits
        computes something else than they stand for, and one with weights of seven bits does not. Found out by a tiny
        file, once a process; a target that cannot run it counts as one that does. There the files of strategies with
        the precision "int8" are compared with what ``exact`` gives for them.
        """
        return _saturates(self.open, profile)

    def exact(self, path: Path, profile: HardwareProfile) -> Session | None:
        """A file opened to be computed as its numbers say, with no sum of int8 products cut off, however slowly: for
        its outputs, not for timing. None when the runtime knows no way to compute this file so.
        """
        return None


@cache
def _saturates(opened: Callable[[Path, HardwareProfile], Session], profile: HardwareProfile) -> bool:
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        path = Path(folder) / "product.onnx"
        feed = write_product(path)
        try:
            return not is_exact(opened(path, profile).run(feed)[0])
        except CandidateFailed:
            return True

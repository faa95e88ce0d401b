"""An opened task: what every candidate is made with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.structure import KnownPlans
from autocompress.data import Split
from autocompress.latency import Latency
from autocompress.measure import Effort, MachineLock, Timer, measure, running, timer
from autocompress.plugin.contract import Context, Feed, Runtime, Session
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Step
from autocompress.storage.folder import RunFolder
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor
from autocompress.task import Task


@dataclass(frozen=True)
class Trainer:
    """What trainings share: the examples in their order with the teacher's outputs, and how to compute."""

    stream: TrainStream
    arithmetic: Arithmetic


@dataclass(frozen=True)
class OpenTask:
    """What every candidate needs and none changes. ``preparation`` makes it, for gating; ``opening`` completes it.

    variants: (strategy, parameters) of each graph variant with its ratio on the reference, the fastest first; in no
    order and with a ratio of 1 until they were timed there. trainer: None before training is possible.
    """

    task: Task
    profile: HardwareProfile
    plugins: PluginSet
    folder: RunFolder
    store: Store
    context: Context
    val: Split
    test: Split | None
    exporter: str
    fingerprint: str
    feeds: Sequence[Feed]
    reference: Timer
    lock: MachineLock
    supervisor: Supervisor
    plans: KnownPlans | None = None
    variants: tuple[tuple[Step, float], ...] = ()
    trainer: Trainer | None = None

    @property
    def runtime(self) -> Runtime:
        return self.plugins.runtime(self.profile.runtime)

    def open(self, path: Path) -> Session:
        """An ONNX file, ready to run on the target."""
        return self.runtime.open(path, self.profile)

    def time(
        self,
        path: Path,
        effort: Effort,
        stop: Callable[[Latency], bool] | None = None,
        anyway: Callable[[Latency], bool] | None = None,
    ) -> Latency:
        """Latency of a file beside the reference, while nothing else of the search computes; see ``measure``."""
        with self.supervisor.during("measure", "measure"):
            candidate = timer(self.runtime, self.open(path), self.feeds)
            with self.lock.measuring(), running():
                return measure(candidate, self.reference, self.profile, effort=effort, stop=stop, anyway=anyway)

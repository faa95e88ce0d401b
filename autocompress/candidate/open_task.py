"""An opened task: what every candidate is made with."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.structure import KnownPlans
from autocompress.data import Feed, ScoredSet
from autocompress.measure import MachineLock
from autocompress.plugin.contract import Context, Runtime, Session
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor
from autocompress.task import Task


@dataclass(frozen=True)
class OpenTask:
    """What every candidate needs and none changes. ``preparation`` makes it.

    feeds: validation inputs at the profile's batch, to check and time files with. lock: agrees with other processes on
    who computes and who measures.
    """

    task: Task
    profile: HardwareProfile
    plugins: PluginSet
    folder: RunFolder
    store: Store
    context: Context
    val: ScoredSet
    test: ScoredSet | None
    fingerprint: str
    feeds: Sequence[Feed]
    lock: MachineLock
    supervisor: Supervisor
    plans: KnownPlans | None = None
    policy: TrainingPolicy = TrainingPolicy()

    @property
    def runtime(self) -> Runtime:
        return self.context.runtime

    def working_s(self) -> float:
        """A clock in seconds, which stands still while others have the machine."""
        return time.monotonic() - self.lock.waited_s

    def safe_point(self, text: str) -> Callable[[float], None]:
        """To be called between two steps of a training, with the fraction that is done; it raises Interrupted when the
        work is to end. text: what happens.
        """

        def between(fraction: float) -> None:
            self.supervisor.check()
            self.lock.give_way()
            self.supervisor.tell(text, fraction)

        return between

    def open(self, path: Path) -> Session:
        """An ONNX file, ready to run on the target."""
        return self.runtime.open(path, self.profile)

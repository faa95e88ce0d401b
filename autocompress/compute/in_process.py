"""All operations computed in this process, for one task object. Nothing can be killed here, so limits do not hold."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from autocompress.candidate.policy import TrainingPolicy
from autocompress.compute.executor import InProcess
from autocompress.compute.local import LocalComputation
from autocompress.compute.operations import WorkerOperations
from autocompress.compute.target import target_here
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress.supervisor import Supervisor
from autocompress.task import Task


@dataclass(frozen=True)
class Here:
    """operations: on the task. computation: what holds it once it is prepared."""

    operations: WorkerOperations
    computation: LocalComputation


def in_process(
    task: Task,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    *,
    seed: int = 0,
    supervisor: Supervisor | None = None,
    clock: Callable[[], float] = time.monotonic,
    score_on: int | None = None,
    policy: TrainingPolicy = TrainingPolicy(),
) -> Here:
    """score_on: at most so many validation examples."""
    supervisor = supervisor or Supervisor()
    computation = LocalComputation(lambda: task, profile, plugins, folder, seed, supervisor, score_on, policy)
    target = target_here(profile, plugins, folder, supervisor)
    return Here(WorkerOperations(InProcess(computation), InProcess(target), clock, supervisor.note), computation)

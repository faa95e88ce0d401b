"""All operations computed in this process, for one task object. Nothing can be killed here, so limits do not hold."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.preparation import Preparation
from autocompress.compute.executor import InProcess
from autocompress.compute.local import LocalComputation, UnopenedTask
from autocompress.compute.operations import WorkerOperations
from autocompress.compute.target import target_here
from autocompress.compute.threads import use_no_more_than_cores
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress.supervisor import Supervisor
from autocompress.task import Task


def in_process(
    task: Task,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    *,
    seed: int = 0,
    supervisor: Supervisor | None = None,
    clock: Callable[[], float] = time.monotonic,
    policy: TrainingPolicy = TrainingPolicy(),
    score_on: int | None = None,
) -> WorkerOperations:
    """``prepare`` comes first. score_on: at most so many validation examples."""
    use_no_more_than_cores()
    supervisor = supervisor or Supervisor()
    unopened = UnopenedTask(lambda: task, profile, plugins, folder, seed, supervisor, score_on, policy)
    return _operations(unopened, profile, plugins, folder, supervisor, clock)


@dataclass(frozen=True)
class OpenedInProcess:
    """operations: on the task, which is open. prepared: what opening it found."""

    operations: WorkerOperations
    prepared: Preparation
    computation: LocalComputation


def opened_in_process(
    task: Task,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    only: Sequence[str] | None,
    *,
    seed: int = 0,
    supervisor: Supervisor | None = None,
    score_on: int | None = None,
) -> OpenedInProcess:
    """only: the strategies in use; None for all that are installed. score_on: at most so many validation examples."""
    use_no_more_than_cores()
    supervisor = supervisor or Supervisor()
    unopened = UnopenedTask(lambda: task, profile, plugins, folder, seed, supervisor, score_on)
    computation, prepared = unopened.prepare(None, only)
    operations = _operations(computation, profile, plugins, folder, supervisor, time.monotonic)
    return OpenedInProcess(operations, prepared, computation)


def _operations(
    held: Any,
    profile: HardwareProfile,
    plugins: PluginSet,
    folder: RunFolder,
    supervisor: Supervisor,
    clock: Callable[[], float],
) -> WorkerOperations:
    target = target_here(profile, plugins, folder, supervisor)
    return WorkerOperations(InProcess(held), InProcess(target), clock, supervisor.note)

"""The worker processes of a search: those that hold the task, and those that time files, one for each device."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.compute.executor import Pool
from autocompress.compute.operations import WorkerOperations
from autocompress.compute.worker import Worker, WorkerConfig
from autocompress.measure import needs_the_machine

FOR_EACH_DEVICE = 2  # candidates elsewhere: one is timed, which takes nothing from here, and the next one waits for it
FIRST = 0  # the worker beside whose work a measurement is shown: it waits meanwhile


def worker_processes(
    config: WorkerConfig,
    log: Path,
    tell: Callable[..., None],
    interrupted: Callable[[], bool],
    note: Callable[[str], None],
    clock: Callable[[], float],
    settled: Callable[[Arithmetic], None],
) -> WorkerOperations:
    """Operations computed by ``config.workers`` processes. log: what they print. tell: told what each does, as
    ``tell(text, fraction, worker=number)``. interrupted: asked while they work. note: told what a user should read.
    settled: told the arithmetic that trainings keep to, once another one crashed.
    """

    def worker(config: WorkerConfig, number: int) -> Worker:
        return Worker(config, log, partial(tell, worker=number), interrupted, note)

    computing = Pool([worker(config, number) for number in range(config.workers)], config.policy, note)
    devices = config.profile.on_each_device()
    comparing = Pool(
        [worker(replace(config, task=None, profile=one), FIRST) for one in devices], config.policy, opens=False
    )
    for_each = FOR_EACH_DEVICE if config.profile.elsewhere else 1
    beside = 0 if needs_the_machine(config.profile) else for_each * len(devices)
    return WorkerOperations(computing, comparing, clock, note, settled, beside)

"""The child process of a worker: it holds the task or the target, and answers calls."""

import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autocompress.compute.service import Service
from autocompress.compute.starting import failed_by
from autocompress.compute.threads import Threads, use_threads
from autocompress.compute.worker import STARTED, TELL_EVERY_S, WorkerConfig
from autocompress.errors import AutocompressError, CandidateFailed, UsageError
from autocompress.machine.cores import cores

if TYPE_CHECKING:
    from autocompress.plugin.loader import PluginSet
    from autocompress.supervisor import Supervisor, Tell
    from autocompress.task import Task


def threads_of(config: WorkerConfig) -> Threads | None:
    """What is told how many threads to compute with. Files are timed with those of the profile."""
    if config.task is None:
        return None
    from autocompress.measure import MachineLock

    return Threads(timing=MachineLock(Path(config.out)).others_measure)


def task_or_target(config: WorkerConfig, supervisor: "Supervisor") -> object:
    """What the child holds: the task, to open and compute on, or the target, to time files on."""
    from autocompress.plugin.loader import load_plugins
    from autocompress.storage.folder import RunFolder

    plugins, folder = load_plugins(), RunFolder(config.out)
    if config.task is None:
        from autocompress.compute.target import target_here

        return target_here(config.profile, plugins, folder, supervisor, forks=True)
    from autocompress.compute.local import UnopenedTask

    return UnopenedTask(
        partial(_load, config, plugins),
        config.profile,
        plugins,
        folder,
        config.seed,
        supervisor,
        config.score_on,
        config.policy.training,
    )


def answer_calls(
    descriptor: int,
    serve: Callable[[WorkerConfig, "Supervisor"], object] = task_or_target,
    threads_of: Callable[[WorkerConfig], Threads | None] = threads_of,
) -> None:
    """The child: answers calls until the pipe closes, which is also how it learns that its parent is gone.

    serve: makes what has the methods that are called. threads_of: makes what is told how many threads each call may
    use.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()  # where it was when it crashed goes into the log
    pipe = Connection(descriptor)
    config: WorkerConfig = pipe.recv()
    calls: queue.Queue[tuple[str, tuple[Any, ...], int]] = queue.Queue()
    stopping = threading.Event()

    def listen() -> None:
        try:
            while True:
                call = pipe.recv()
                if call[0] == "stop":
                    stopping.set()
                else:
                    calls.put(call)
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    last: tuple[float, str] = (0.0, "")

    def tell(text: str, fraction: float | None) -> None:
        nonlocal last
        now = time.monotonic()
        if text != last[1] or now - last[0] >= TELL_EVERY_S:
            last = now, text
            pipe.send(("tell", (text, fraction)))

    computing = threads_of(config)
    adapt = computing.adapt if computing is not None else lambda: None
    supervisor = _supervisor(tell, lambda text: pipe.send(("note", text)), stopping.is_set, adapt)
    service = Service(serve(config, supervisor))
    pipe.send((STARTED, None))
    while True:
        supervisor.phases.skip()
        method, args, threads = calls.get()
        supervisor.phases.skip()
        last = (0.0, "")  # what is done is told anew of each call
        if computing is not None:
            computing.allow(threads)
        try:
            answer = "result", service.call(method, *args)
        except AutocompressError as error:
            answer = "error", _ours(error)
        except MemoryError:
            answer = "error", CandidateFailed("out of memory")
        except (
            Exception
        ) as error:  # a fault of ours or a plug-in's: this candidate fails, with the traceback in the log
            traceback.print_exc()
            answer = "error", failed_by(error)
        pipe.send(("spent", supervisor.phases.taken()))
        pipe.send(answer)


def _ours(error: AutocompressError) -> AutocompressError:
    """The error as one of our own classes: the driver cannot unpickle a class of the task file or a plug-in."""
    if type(error).__module__.partition(".")[0] == "autocompress":
        return error
    return UsageError(str(error)) if isinstance(error, UsageError) else CandidateFailed(str(error))


def _supervisor(
    tell: "Tell", note: Callable[[str], None], stop: Callable[[], bool], adapt: Callable[[], None]
) -> "Supervisor":
    from autocompress.supervisor import Supervisor

    return Supervisor(tell, note, stop, adapt)


def _load(config: WorkerConfig, plugins: "PluginSet") -> "Task":
    """With this worker's own cores, whatever this call may use: what a task file trains itself is the same in every
    process of a search then.
    """
    import torch

    from autocompress.plugin.task_targets import task_of

    assert config.task is not None
    allowed = torch.get_num_threads()
    use_threads(max(1, (config.policy.cores or cores()) // config.workers))
    try:
        return task_of(config.task, plugins)
    finally:
        use_threads(allowed)


if __name__ == "__main__":
    answer_calls(int(sys.argv[1]))

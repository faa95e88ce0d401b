"""One job at a time in a process of its own, which is ended at its limits.

The process is a copy of one that has loaded ONNX Runtime and opened nothing (multiprocessing's fork server): a new
interpreter would take longer than a session.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from autocompress_agent.limits import MEGABYTE, Limits
from autocompress_agent.machine.memory import resident_bytes
from autocompress_agent.refusal import Refused

LOOK_EVERY_S = 0.25  # at the memory that a job takes


class Children:
    """limits: of each job. folder: what a job's working directory is; nothing is in it."""

    def __init__(self, limits: Limits, folder: Path) -> None:
        self._limits = limits
        self._folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["autocompress_agent.jobs"])

    def run(self, job: Callable[..., Any], *arguments: Any, seconds: float | None = None) -> Any:
        """What the job returns, or raises Refused. seconds: that it may take; the agent's limit if that is less."""
        limit_s = min(self._limits.job_s, seconds or self._limits.job_s)
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_answer, args=(theirs, self._folder, job, arguments), daemon=True)
        process.start()
        theirs.close()
        try:
            return self._answered(process, ours, limit_s)
        finally:
            process.kill()
            process.join()
            ours.close()

    def _answered(self, process: Any, pipe: Connection, limit_s: float) -> Any:
        ends, most = time.monotonic() + limit_s, self._limits.memory_bytes
        while not pipe.poll(LOOK_EVERY_S):
            if time.monotonic() > ends:
                raise Refused(504, f"the job took longer than {limit_s:.0f} s and was ended")
            if (resident_bytes(process.pid) or 0) > most:
                raise Refused(
                    413, f"the job took more than the {most // MEGABYTE} MB of memory that it may (--max-memory)"
                )
        try:
            done, answer = pipe.recv()
        except EOFError as error:
            process.join(1.0)
            raise Refused(422, f"the process that ran the file ended without an answer ({process.exitcode})") from error
        if not done:
            raise answer
        return answer


def _answer(pipe: Connection, folder: Path, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the child."""

    os.chdir(folder)
    try:
        said = (True, job(*arguments))
    except Refused as refusal:
        said = (False, refusal)
    except MemoryError:
        said = (False, Refused(413, "there is not enough memory on the device"))
    except Exception as error:
        said = (False, Refused(422, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))
    pipe.send(said)

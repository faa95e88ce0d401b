"""One job at a time in a process of its own, which is ended at its limits.

The process is a copy of one that has loaded ONNX Runtime and opened nothing (multiprocessing's fork server): a new
interpreter would take longer than a session.
"""

import multiprocessing
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from autocompress_agent.limits import MEGABYTE, Limits
from autocompress_agent.machine.memory import resident_bytes
from autocompress_agent.refusal import Refused

SLACK_BYTES = 256 << 20  # beyond which the system refuses more at once, between two looks
LOOK_EVERY_S = 0.25  # at the memory that a job takes


class Children:
    """limits: of each job. folder: where each job has a folder of its own to work in, which goes with it."""

    def __init__(self, limits: Limits, folder: Path) -> None:
        self._limits = limits
        self._folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["autocompress_agent.jobs"])

    def run(self, job: Callable[..., Any], *arguments: Any) -> Any:
        """What the job returns, or raises Refused."""
        own = Path(tempfile.mkdtemp(dir=self._folder))
        ours, theirs = self._context.Pipe(duplex=False)
        given = theirs, own, self._limits.memory_bytes, job, arguments
        process = self._context.Process(target=_answer, args=given, daemon=True)
        try:
            process.start()
            theirs.close()
            return self._answered(process, ours)
        finally:
            if process.pid is not None:
                process.kill()
                process.join()
            ours.close()
            shutil.rmtree(own, ignore_errors=True)

    def _answered(self, process: Any, pipe: Connection) -> Any:
        ends, most = time.monotonic() + self._limits.job_s, self._limits.memory_bytes
        while not pipe.poll(LOOK_EVERY_S):
            if time.monotonic() > ends:
                raise Refused(504, f"the job took longer than {self._limits.job_s:g} s and was ended (--max-seconds)")
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


def _answer(pipe: Connection, folder: Path, most: int, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the child."""
    said: tuple[bool, Any]
    try:
        threading.Thread(target=_end_with_the_agent, daemon=True).start()
        _first_to_go_without_memory(most)
        tempfile.tempdir = str(folder)
        os.chdir(folder)
        said = True, job(*arguments)
    except Refused as refusal:
        said = False, refusal
    except MemoryError:
        said = False, Refused(413, "there is not enough memory on the device")
    except Exception as error:
        said = False, Refused(422, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    pipe.send(said)


def _end_with_the_agent() -> None:
    """A job is for nobody once the agent is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _first_to_go_without_memory(most: int) -> None:
    """Of this device's processes, and with no more than so many bytes beside what it has."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, ((resident_bytes(os.getpid()) or 0) + 2 * most + SLACK_BYTES,) * 2)

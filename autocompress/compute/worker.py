"""A persistent child process that imports the task itself, computes, and can be killed and replaced.

Messages over the pipe are pickles between a process and its own child; nothing of them is ever stored.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from autocompress.compute.policy import WorkerPolicy
from autocompress.compute.service import OPENS
from autocompress.compute.starting import ended_at_once, last_words, not_started
from autocompress.errors import CandidateFailed, Interrupted, UsageError
from autocompress.machine.memory import memory_bytes, peak_bytes, resident_bytes
from autocompress.storage.atomic import no_space
from autocompress.supervisor import Tell, tell_nobody

TELL_EVERY_S = 0.2
OPEN_LIMIT_S = 300.0  # to open a task, at least
STARTED = "started"  # the first message of a child
FAULTS = {-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)}


@dataclass(frozen=True)
class WorkerConfig:
    """What the child needs. task: to hold and compute on; None for one that times files. workers: how many there are of
    it, which share the memory. score_on: at most so many validation examples.
    """

    task: str | None
    profile: Any
    out: Path
    seed: int
    workers: int = 1
    policy: WorkerPolicy = WorkerPolicy()
    score_on: int | None = None


class WorkerDied(CandidateFailed):
    """The computing process ended in the middle of a call: crashed, was killed, or ran over its time. doing: what it
    told last.
    """

    def __init__(self, reason: str, strategy: str | None = None, doing: str = "") -> None:
        super().__init__(reason, strategy)
        self.doing = doing

    def __reduce__(self) -> tuple[type["CandidateFailed"], tuple[str | None, ...]]:
        return type(self), (self.reason, self.strategy, self.doing)


class OutOfTime(WorkerDied):
    """It was ended, since there was no answer within the time that the call had."""


class WorkerCrashed(WorkerDied):
    """It was ended by a signal that is not ours: a crash, or somebody else's kill. What it did can be tried again.
    killed: by a signal that no fault of a program raises.
    """

    def __init__(self, reason: str, strategy: str | None = None, doing: str = "", *, killed: bool = False) -> None:
        super().__init__(reason, strategy, doing)
        self.killed = killed


class Worker:
    """Computes in a child process, started when first needed and again after it died.

    tell: told what the child does. note: told what a user should read. interrupted: asked while waiting; once True, the
    child is asked to stop at its next safe point. A fresh child opens the task again, with what the first one found,
    before its next call. spent: seconds of the children by what they went into, in all. child: the module that is run
    as one.
    """

    child = "autocompress.compute.child"

    def __init__(
        self,
        config: WorkerConfig,
        log: Path,
        tell: Tell,
        interrupted: Callable[[], bool],
        note: Callable[[str], None] = tell_nobody,
    ) -> None:
        self._config = config
        self._log = log
        self._tell = tell
        self._note = note
        self._interrupted = interrupted
        self.spent: Counter[str] = Counter()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._opening: tuple[Any, ...] | None = None  # what a fresh child opens the task with
        self._is_open = False
        self._has_started = False  # this child
        self._can_start = False  # one did before
        self._said_before = 0  # bytes of the log, before the child
        self._sharing = config.workers  # that the memory is for

    def call(self, method: str, *args: Any, limit_s: float | None = None, threads: int = 0) -> Any:
        """Run a method of what the child holds, with so many threads (0: all there are); returns or raises what it
        does.

        Raises WorkerDied when the child ends meanwhile, or takes longer than ``limit_s`` seconds; WorkerNotStarted when
        there can be none.
        """
        self.start()
        opens = method == OPENS
        if not self._is_open and self._opening is not None and not opens:
            began = time.monotonic()
            try:
                self._exchange(OPENS, self._opening, limit_s and max(limit_s, OPEN_LIMIT_S), threads)
            except UsageError as error:
                raise UsageError(
                    f"the task could be opened once and not again in another worker process ({error}): seed what is "
                    "random in the task file, so that it gives the same model and data each time"
                ) from error
            self._is_open = True
            took = time.monotonic() - began
            if limit_s and took >= limit_s:  # it is open now, and stays so for the next call
                raise OutOfTime(f"no answer within {limit_s:.0f} s: opening the task again took {took:.0f} s")
            limit_s = limit_s and limit_s - took
        result = self._exchange(method, args, limit_s, threads)
        if opens:
            self._is_open, self._opening = True, (result, *args[1:])
        return result

    def opened(self, *args: Any) -> None:
        """What a fresh child is to open the task with, from now on."""
        self._opening = args

    def share_memory(self, workers: int) -> None:
        """From now on so many have the memory, this one included."""
        self._sharing = workers

    def peak_bytes(self) -> int | None:
        """The most memory that the child had so far; None where there is none or the system does not say."""
        return None if self._process is None else peak_bytes(self._process.pid)

    def kill(self) -> None:
        """End the child at once, from any thread; whoever waits for its answer learns that it died."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever a plug-in started

    def close(self) -> None:
        """End the child. It is idle, or what it does is no longer wanted."""
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                self._pipe.close()
            self._pipe = None
        self.kill()
        if self._process is not None:
            self._process.wait()
            self._process = None

    def start(self) -> None:
        """Start a child, unless there is one. Raises WorkerNotStarted when the system refuses it."""
        if self._process is not None:
            return
        self._is_open = self._has_started = False
        try:
            log = self._log.open("ab")
        except OSError as error:
            raise no_space(self._log, error) from error
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            log.close()
            raise not_started(error) from error
        with log, theirs:
            self._said_before = log.tell()
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self.child, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # a terminal's Ctrl-C is for the driver, which asks the child to stop
                )
            except OSError as error:
                ours.close()
                raise not_started(error) from error
        self._pipe = Connection(ours.detach())
        with contextlib.suppress(OSError):  # it has ended already; the next call tells
            self._pipe.send(self._config)

    def _exchange(self, method: str, args: tuple[Any, ...], limit_s: float | None, threads: int) -> Any:
        assert self._pipe is not None
        doing = ""
        deadline = None if limit_s is None else time.monotonic() + limit_s
        asked_to_stop: float | None = None
        try:
            self._pipe.send((method, args, threads))
            while True:
                if self._pipe.poll(TELL_EVERY_S):
                    kind, value = self._pipe.recv()
                    if kind == "tell":
                        doing = value[0] or doing
                        self._tell(*value)
                    elif kind == "note":
                        self._note(value)
                    elif kind == STARTED:
                        self._has_started = self._can_start = True
                    elif kind == "spent":
                        self.spent.update(value)
                    elif kind == "result":
                        return value
                    else:
                        raise value
                elif self._process is not None and self._process.poll() is not None and not self._pipe.poll():
                    raise EOFError  # the pipe may stay open, in the hands of a process that a plug-in forked
                else:
                    self._tell("", None)
                if asked_to_stop is None and self._interrupted():
                    asked_to_stop = time.monotonic()
                    self._pipe.send(("stop", (), 0))
                if asked_to_stop is not None and time.monotonic() - asked_to_stop > self._config.policy.stop_grace_s:
                    self.close()
                    raise Interrupted("stopped")
                if deadline is not None and time.monotonic() > deadline:
                    self.close()
                    raise OutOfTime(f"no answer within {limit_s:.0f} s: it was stopped", doing=doing)
                if self._over_memory():
                    self.close()
                    raise WorkerDied(
                        f"it used over {self._memory_share:.0%} of the memory that there is here and was stopped",
                        doing=doing,
                    )
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            code = _wait(self._process)
            self._read_what_is_left()
            self.close()
            by_signal = code is not None and code < 0
            if not self._has_started and not (by_signal and self._can_start):
                raise ended_at_once(_ending(code), self._log, self._said_before) from error
            said = "" if by_signal else last_words(self._log, self._said_before)
            reason = f"the worker process ended ({_ending(code)}){said}; see {self._log}"
            if by_signal:
                raise WorkerCrashed(reason, doing=doing, killed=code not in FAULTS) from error
            raise WorkerDied(reason, doing=doing) from error

    def _read_what_is_left(self) -> None:
        """Of a child that ended while it was idle: whether it had started."""
        for _ in range(2):  # the first time the pipe may only tell that what was sent was not read
            with contextlib.suppress(EOFError, OSError):
                while self._pipe is not None and self._pipe.poll():
                    if self._pipe.recv()[0] == STARTED:
                        self._has_started = self._can_start = True

    @property
    def _memory_share(self) -> float:
        return self._config.policy.memory_share / self._sharing

    def _over_memory(self) -> bool:
        resident = None if self._process is None else resident_bytes(self._process.pid)
        return resident is not None and resident > self._memory_share * memory_bytes()


def _wait(process: "subprocess.Popen[bytes] | None") -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(5) if process is not None else None
    return None


def _ending(code: int | None) -> str:
    if code is None:
        return "unknown"
    names = {number.value: number.name for number in signal.Signals}
    return names.get(-code, f"signal {-code}") if code < 0 else f"exit code {code}"

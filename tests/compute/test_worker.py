"""The worker process: whatever happens to it, the caller gets one error with the reason, and the next call works.

Its child does what it is told and loads nothing; what it does with a task is in test_child.py.
"""

import contextlib
import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from autocompress.compute.policy import WorkerPolicy
from autocompress.compute.starting import WorkerNotStarted
from autocompress.compute.worker import Worker, WorkerConfig, WorkerCrashed, WorkerDied
from autocompress.errors import AutocompressError, CandidateFailed, Interrupted, UsageError

LONG_S = 6000.0


class QuickWorker(Worker):
    child = "quick_child"


@dataclass
class Bed:
    """A worker, what it told and noted, and whether it is asked to stop."""

    folder: Path
    told: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    stop: bool = False

    def __post_init__(self) -> None:
        self.worker = QuickWorker(
            WorkerConfig(None, None, self.folder, seed=0),
            self.folder / "worker.log",
            lambda text, _: self.told.append(text),
            lambda: self.stop,
            self.noted.append,
        )

    def set(self, monkeypatch: pytest.MonkeyPatch, **policy: float) -> None:
        """Another policy for one test, in the worker that is there."""
        config = replace(self.worker._config, policy=WorkerPolicy(**policy))
        monkeypatch.setattr(self.worker, "_config", config)

    def pid(self) -> int:
        """The child's own number, told by the child; starts one where there is none."""
        number: int = self.worker.call("pid")
        return number

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text()


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    for folder in (tmp_path, Path(__file__).parent):
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    made = Bed(tmp_path)
    yield made
    made.worker.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_child_is_another_process_and_stays_between_calls(bed: Bed):
    pid = bed.pid()
    assert pid != os.getpid()
    assert bed.pid() == pid


def test_an_error_arrives_as_what_it_is(bed: Bed):
    with pytest.raises(UsageError, match=r"^not like this$"):
        bed.worker.call("refuse", "not like this")


def test_fault_of_the_program_fails_the_call_with_its_traceback_in_the_log(bed: Bed):
    with pytest.raises(CandidateFailed, match=r"AttributeError: .*no_such_method"):
        bed.worker.call("no_such_method")
    assert "Traceback" in bed.log


def test_time_is_counted_by_what_it_went_into_and_what_is_done_is_told(bed: Bed):
    bed.pid()
    before, in_calls_s = bed.worker.spent.copy(), 0.0
    for sleep_s in (0.3, 0.0):
        began = time.monotonic()
        bed.worker.call("sleep", sleep_s)
        in_calls_s += time.monotonic() - began
        time.sleep(0.7)
    spent = bed.worker.spent - before
    assert spent["open"] >= 0.3
    assert sum(spent.values()) <= in_calls_s, "idle time is nobody's"
    assert "sleep" in bed.told


def test_what_is_printed_goes_to_the_log_and_what_is_noted_to_the_user(bed: Bed, capfd: pytest.CaptureFixture[str]):
    bed.worker.call("say", "out loud")
    assert bed.log == "out loud\n"
    assert bed.noted == ["out loud"]
    assert "out loud" not in "".join(capfd.readouterr())


def test_run_folder_that_was_removed_is_told_and_not_made_again(bed: Bed):
    bed.folder.rmdir()
    with pytest.raises(AutocompressError, match=r"worker\.log: its folder was removed meanwhile; run the same command"):
        bed.pid()
    assert not bed.folder.exists()


@pytest.mark.parametrize(
    ("method", "number", "reason"),
    [("kill_itself", signal.SIGSEGV, "SIGSEGV"), ("leave", 3, "exit code 3")],
    ids=["signal", "code"],
)
def test_crash_names_the_signal_or_the_code_and_the_next_call_starts_a_fresh_child(
    method: str, number: int, reason: str, bed: Bed
):
    before = bed.pid()
    with pytest.raises(WorkerDied, match=rf"the worker process ended \({reason}\); see .*worker\.log") as caught:
        bed.worker.call(method, int(number))
    assert isinstance(caught.value, WorkerCrashed) == (reason == "SIGSEGV"), "a signal may come from outside"
    assert not getattr(caught.value, "killed", False), "a fault of the program"
    assert not alive(before)
    assert bed.pid() != before


def test_last_words_of_a_child_that_ended_itself_are_told(bed: Bed):
    bed.worker.call("say", "libgomp: Thread creation failed")
    with pytest.raises(WorkerDied, match=r"ended \(exit code 1\): libgomp: Thread creation failed; see .*worker\.log"):
        bed.worker.call("leave", 1)


def test_hang_is_stopped_at_the_limit(bed: Bed):
    pid = bed.pid()
    with pytest.raises(WorkerDied, match="no answer within 1 s: it was stopped") as caught:
        bed.worker.call("sleep", LONG_S, limit_s=1)
    assert caught.value.doing == "sleep"
    assert not alive(pid)


def test_a_child_that_was_opened_again_for_too_long_stays_open_for_the_next_call(bed: Bed):
    bed.worker.opened(0.5)
    with pytest.raises(WorkerDied, match="no answer within 0 s: opening the task again took"):
        bed.worker.call("pid", limit_s=0.3)
    bed.worker.opened(LONG_S)
    assert alive(bed.worker.call("pid", limit_s=30.0)), "and is not opened once more"


def test_hang_that_ignores_sigterm_is_stopped_when_interrupted(bed: Bed, monkeypatch: pytest.MonkeyPatch):
    bed.set(monkeypatch, stop_grace_s=0.5)
    pid = bed.pid()
    bed.stop = True
    with pytest.raises(Interrupted):
        bed.worker.call("ignore_and_sleep", LONG_S)
    assert not alive(pid)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EAGAIN, "Resource temporarily unavailable; the limit of processes and threads is reached: raise it"),
        (errno.ENOMEM, "Cannot allocate memory; there is too little memory: raise the limit"),
        (errno.EMFILE, "Too many open files; the limit of open files is reached: raise it"),
        (errno.EPERM, "Operation not permitted; see what the system allows"),
    ],
)
def test_a_child_that_the_system_refuses_is_told_with_what_would_help(
    number: int, said: str, bed: Bed, monkeypatch: pytest.MonkeyPatch
):
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(WorkerNotStarted, match=f"^a worker process cannot be started: {said}") as caught:
        bed.pid()
    assert caught.value.exit_code == 1
    assert not isinstance(caught.value, CandidateFailed), "a search would try one candidate after another"


@pytest.mark.parametrize(
    ("dies", "said"),
    [
        ('raise RuntimeError("can\'t start new thread")', r"\(exit code 1\): .* new thread; the limit of processes"),
        ("print('old CPU'); sys.exit(3)", r"\(exit code 3\): old CPU; see .*worker.log"),
        ("os.kill(os.getpid(), 9)", r"\(SIGKILL\); there is too little memory"),
        ("raise MemoryError", r"\(exit code 1\): MemoryError; there is too little memory"),
    ],
    ids=["no thread", "some other cause", "killed", "no memory"],
)
def test_a_child_that_ends_at_once_is_told_with_its_last_words(dies: str, said: str, bed: Bed, tmp_path: Path):
    (tmp_path / "worker.log").write_text("MemoryError, of an earlier child\n")
    (tmp_path / "dies.py").write_text(f"import os, sys\n{dies}\n")
    bed.worker.child = "dies"
    with pytest.raises(WorkerNotStarted, match=f"^a worker process ended as it was started {said}"):
        bed.pid()


def test_a_child_that_was_killed_before_its_first_call_had_started_all_the_same(bed: Bed):
    bed.worker.start()
    assert eventually(lambda: bed.worker._pipe.poll())
    bed.worker._process.kill()
    bed.worker._process.wait()
    with pytest.raises(WorkerCrashed, match="SIGKILL") as caught:
        bed.pid()
    assert caught.value.killed
    assert bed.pid()


def test_too_much_memory_stops_the_child(bed: Bed, monkeypatch: pytest.MonkeyPatch):
    pid = bed.pid()
    bed.set(monkeypatch, memory_share=1e-9)
    with pytest.raises(WorkerDied, match="of the memory that there is here"):
        bed.worker.call("sleep", LONG_S)
    assert not alive(pid)


def test_neither_the_child_nor_what_it_started_is_left_after_close(bed: Bed):
    pid, grandchild = bed.pid(), bed.worker.call("start_another")
    bed.worker.close()
    try:
        assert not alive(pid)
        assert eventually(lambda: not alive(grandchild))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(grandchild, signal.SIGKILL)
    assert bed.worker._process is None
    bed.worker.close()  # once more does no harm


DRIVER = """
import sys
from pathlib import Path
from autocompress.compute.worker import Worker, WorkerConfig
Worker.child = "quick_child"
folder = Path(sys.argv[1])
worker = Worker(WorkerConfig(None, None, folder, 0), folder / "worker.log", lambda *told: None, lambda: False)
print(worker.call("pid"), flush=True)
worker.call("sleep", 6000)
"""


def test_child_ends_when_its_parent_is_killed(bed: Bed, tmp_path: Path):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    try:
        pid = int(driver.stdout.readline())
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
    assert eventually(lambda: not alive(pid))


def test_reasons_survive_the_way_between_processes():
    died = pickle.loads(pickle.dumps(WorkerDied("it crashed", "carve")))
    assert (type(died), died.reason, died.strategy) == (WorkerDied, "it crashed", "carve")
    stopped = pickle.loads(pickle.dumps(Interrupted("stopped", 143)))
    assert (type(stopped), str(stopped), stopped.exit_code) == (Interrupted, "stopped", 143)

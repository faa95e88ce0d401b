"""The worker process: whatever a task does to it, the caller gets one error with the reason, and the next call works.

One worker serves most tests. A call to ``open`` imports the task file anew, so each test writes what the factory does.
"""

import contextlib
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

from autocompress.candidate.request import Made, MakeRequest
from autocompress.compute.policy import WorkerPolicy
from autocompress.compute.worker import Worker, WorkerConfig, WorkerCrashed, WorkerDied
from autocompress.errors import AutocompressError, CandidateFailed, Interrupted, UsageError
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe

START_S = 600.0  # importing torch on a slow machine that is busy


@dataclass
class Bed:
    """A worker, the task file it opens, what it told, and whether it is asked to stop."""

    folder: Path
    told: list[str] = field(default_factory=list)
    stop: bool = False

    def __post_init__(self) -> None:
        self.task = self.folder / "the_task.py"
        config = WorkerConfig(f"{self.task}:task", HardwareProfile(name="p"), self.folder, seed=0)
        self.worker = Worker(
            config, self.folder / "worker.log", lambda text, _: self.told.append(text), lambda: self.stop
        )

    def set(self, monkeypatch: pytest.MonkeyPatch, **policy: float) -> None:
        """Another policy for one test, in the worker that is there."""
        config = replace(self.worker._config, policy=WorkerPolicy(**policy))
        monkeypatch.setattr(self.worker, "_config", config)

    def open(self, body: str, limit_s: float | None = START_S) -> object:
        """Open the task whose factory does ``body``."""
        text = f"import os, signal, subprocess, sys, time\nfrom autocompress.errors import *\ndef task():\n    {body}\n"
        self.task.write_text(text)
        return self.worker.call("prepare", limit_s=limit_s)

    def pid(self) -> int:
        """The child's own number, told by the child; starts one where there is none."""
        with pytest.raises(UsageError) as caught:
            self.open("raise UsageError(f'pid {os.getpid()}')")
        return int(str(caught.value).removeprefix("pid "))

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    bed = Bed(tmp_path_factory.mktemp("worker"))
    yield bed
    bed.worker.close()


@pytest.fixture
def bed(shared: Bed) -> Bed:
    shared.stop = False
    shared.told.clear()
    return shared


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
    assert "open the task" in bed.told


def test_errors_arrive_as_what_they_are(bed: Bed):
    with pytest.raises(UsageError, match=r"the_task\.py:task\(\) raised KeyError \(line 4\): 'gone'"):
        bed.open("raise KeyError('gone')")


def test_fault_of_the_program_fails_the_call_with_its_traceback_in_the_log(bed: Bed):
    bed.pid()
    with pytest.raises(CandidateFailed, match=r"AttributeError: .*no_such_method"):
        bed.worker.call("no_such_method", limit_s=START_S)
    with pytest.raises(CandidateFailed, match="RuntimeError: the task is not open"):
        bed.worker.call("time_training", limit_s=START_S)
    assert "Traceback" in bed.log


def test_time_is_counted_by_what_it_went_into(bed: Bed):
    bed.pid()
    before, in_calls_s = bed.worker.spent.copy(), 0.0
    for sleep_s in (0.3, 0.0):
        began = time.monotonic()
        with pytest.raises(UsageError):
            bed.open(f"time.sleep({sleep_s}); raise UsageError('done')")
        in_calls_s += time.monotonic() - began
        time.sleep(0.7)
    spent = bed.worker.spent - before
    assert spent["open"] >= 0.3
    assert sum(spent.values()) <= in_calls_s, "idle time is nobody's"


def test_what_a_task_prints_goes_to_the_log(bed: Bed, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(UsageError, match="done"):
        bed.open("print('out loud', flush=True); raise UsageError('done')")
    assert "out loud" in bed.log
    assert "out loud" not in "".join(capfd.readouterr())


def test_a_task_is_loaded_with_as_many_threads_whatever_a_call_may_use(bed: Bed):
    """What it trains itself is the same then, in whichever process of the search."""
    bed.task.write_text(
        "import torch\nfrom autocompress.errors import UsageError\n"
        "def task():\n    raise UsageError(f'{torch.get_num_threads()} threads')\n"
    )
    said = set()
    for threads in (1, len(os.sched_getaffinity(0))):
        with pytest.raises(UsageError) as caught:
            bed.worker.call("prepare", limit_s=START_S, threads=threads)
        said.add(str(caught.value))
    assert said == {f"{len(os.sched_getaffinity(0))} threads"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os._exit(3)", "exit code 3"),
    ],
)
def test_crash_names_the_signal_or_the_code_and_the_next_call_starts_a_fresh_child(body: str, reason: str, bed: Bed):
    before = bed.pid()
    with pytest.raises(WorkerDied, match=rf"the worker process ended \({reason}\); see .*worker\.log") as caught:
        bed.open(body)
    assert isinstance(caught.value, WorkerCrashed) == (reason == "SIGSEGV"), "a signal may come from outside"
    assert not alive(before)
    assert bed.pid() != before


def test_hang_is_stopped_at_the_limit(bed: Bed):
    pid = bed.pid()
    with pytest.raises(WorkerDied, match="no answer within 1 s: it was stopped") as caught:
        bed.open("time.sleep(6000)", limit_s=1)
    assert caught.value.doing == "open the task"
    assert not alive(pid)


def test_hang_that_ignores_sigterm_is_stopped_when_interrupted(bed: Bed, monkeypatch: pytest.MonkeyPatch):
    bed.set(monkeypatch, stop_grace_s=0.5)
    pid = bed.pid()
    bed.stop = True
    with pytest.raises(Interrupted):
        bed.open("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(6000)")
    assert not alive(pid)


def test_too_much_memory_stops_the_child(bed: Bed, monkeypatch: pytest.MonkeyPatch):
    pid = bed.pid()
    bed.set(monkeypatch, memory_share=1e-9)
    with pytest.raises(WorkerDied, match="of the machine's memory"):
        bed.open("time.sleep(6000)")
    assert not alive(pid)


def test_neither_the_child_nor_what_it_started_is_left_after_close(bed: Bed):
    pid = bed.pid()
    with pytest.raises(UsageError) as caught:
        bed.open("raise UsageError(str(subprocess.Popen(['sleep', '6000']).pid))")
    grandchild = int(str(caught.value))
    bed.worker.close()
    try:
        assert not alive(pid)
        assert eventually(lambda: not alive(grandchild))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(grandchild, signal.SIGKILL)
    assert bed.worker._process is None
    bed.worker.close()  # once more does no harm


REAL_TASK = """
import torch
from autocompress import Task
def task():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return Task(name="real", model=torch.nn.Linear(4, 2), train=(x, y), val=(x[:32] + 1, y[:32]))
"""


def made(worker: Worker) -> Made:
    """The unchanged model as a file, which takes an open task."""
    answer: Made = worker.call("make", MakeRequest(Recipe(), "torchscript"), limit_s=START_S)
    return answer


def test_task_is_open_again_after_a_death(bed: Bed):
    bed.task.write_text(REAL_TASK.replace("def task", "torch.manual_seed(0)\ndef task"))
    assert bed.worker.call("prepare", limit_s=START_S).name == "real"
    first = made(bed.worker)
    os.kill(bed.worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        made(bed.worker)
    assert made(bed.worker).source.digest == first.source.digest


def test_a_fresh_worker_opens_the_task_with_what_another_found(bed: Bed):
    bed.task.write_text(REAL_TASK.replace("def task", "torch.manual_seed(0)\ndef task"))
    prepared = bed.worker.call("prepare", limit_s=START_S)
    bed.worker.close()
    bed.worker.opened(replace(prepared, fingerprint="another"), None)
    with pytest.raises(UsageError, match="holds a search of another model, data or task file"):
        made(bed.worker)
    bed.worker.opened(prepared, None)
    assert made(bed.worker).macs > 0


def test_task_that_is_another_one_each_time_is_refused(bed: Bed):
    bed.task.write_text(REAL_TASK)
    bed.worker.call("prepare", limit_s=START_S)
    os.kill(bed.worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        made(bed.worker)
    with pytest.raises(UsageError, match="could be opened once and not again"):
        made(bed.worker)


def test_error_class_of_the_task_file_arrives_as_an_error(bed: Bed):
    own = "class Own(UsageError): pass\n"
    bed.task.write_text(f"from autocompress.errors import *\n{own}def task():\n    raise Own('set DATA')\n")
    with pytest.raises(AutocompressError, match="set DATA"):
        bed.worker.call("prepare", limit_s=START_S)


DRIVER = """
import sys
from pathlib import Path
from autocompress.profile import HardwareProfile
from autocompress.compute.worker import Worker, WorkerConfig
folder = Path(sys.argv[1])
config = WorkerConfig(f"{folder}/the_task.py:task", HardwareProfile(name="p"), folder, 0)
Worker(config, folder / "worker.log", lambda *told: None, lambda: False).call("prepare")
"""


def test_child_ends_when_its_parent_is_killed(tmp_path: Path):
    there = tmp_path / "pid"
    (tmp_path / "the_task.py").write_text(
        "import os, time\nfrom pathlib import Path\ndef task():\n"
        f"    Path({str(there)!r}).write_text(str(os.getpid()))\n    time.sleep(6000)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)])
    try:
        assert eventually(lambda: there.exists() and there.read_text() != "", START_S)
    finally:
        driver.kill()
        driver.wait()
    assert eventually(lambda: not alive(int(there.read_text())))


def test_reasons_survive_the_way_between_processes():
    died = pickle.loads(pickle.dumps(WorkerDied("it crashed", "carve")))
    assert (type(died), died.reason, died.strategy) == (WorkerDied, "it crashed", "carve")
    stopped = pickle.loads(pickle.dumps(Interrupted("stopped", 143)))
    assert (type(stopped), str(stopped), stopped.exit_code) == (Interrupted, "stopped", 143)

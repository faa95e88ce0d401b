"""What a worker's child does with a task: it imports the task file itself, and a fresh one opens the task again."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from autocompress.candidate.request import Made, UntrainedFiles
from autocompress.compute.worker import Worker, WorkerConfig, WorkerDied
from autocompress.errors import AutocompressError, CandidateFailed, UsageError
from autocompress.machine.cores import cores
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe

PATIENCE_S = 600.0  # importing torch on a slow machine that is busy


@dataclass
class Bed:
    """A worker, the task file it opens, and what it told."""

    folder: Path
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.task = self.folder / "the_task.py"
        config = WorkerConfig(f"{self.task}:task", HardwareProfile(name="p"), self.folder, seed=0)
        self.worker = Worker(config, self.folder / "worker.log", lambda text, _: self.told.append(text), lambda: False)

    def open(self, text: str, threads: int = 0) -> object:
        """Open the task of a file with that text, which each call imports anew."""
        self.task.write_text(f"from autocompress.errors import *\n{text}")
        return self.worker.call("prepare", limit_s=PATIENCE_S, threads=threads)

    def made(self) -> Made:
        """The unchanged model as a file, which takes an open task."""
        answer: Made = self.worker.call("make", UntrainedFiles(Recipe(), "torchscript"), limit_s=PATIENCE_S)
        return answer

    def crash(self) -> None:
        """The child is gone, and a call notices."""
        os.kill(self.worker._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            self.made()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    bed = Bed(tmp_path_factory.mktemp("worker"))
    yield bed
    bed.worker.close()


@pytest.fixture
def bed(shared: Bed) -> Bed:
    shared.told.clear()
    return shared


def test_before_a_task_is_open_nothing_of_it_can_be_computed(bed: Bed):
    with pytest.raises(CandidateFailed, match="'UnopenedTask' object has no attribute 'time_training'"):
        bed.worker.call("time_training", limit_s=PATIENCE_S)


def test_error_of_a_task_file_arrives_with_its_line(bed: Bed):
    with pytest.raises(UsageError, match=r"the_task\.py:task\(\) raised KeyError \(line 3\): 'gone'"):
        bed.open("def task():\n    raise KeyError('gone')\n")
    assert "open the task" in bed.told


def test_error_class_of_the_task_file_arrives_as_an_error(bed: Bed):
    with pytest.raises(AutocompressError, match="set DATA"):
        bed.open("class Own(UsageError): pass\ndef task():\n    raise Own('set DATA')\n")


def test_a_task_is_loaded_with_as_many_threads_whatever_a_call_may_use(bed: Bed):
    """What it trains itself is the same then, in whichever process of the search."""
    said = set()
    for threads in (1, cores()):
        with pytest.raises(UsageError) as caught:
            bed.open("import torch\ndef task():\n    raise UsageError(f'{torch.get_num_threads()} threads')\n", threads)
        said.add(str(caught.value))
    assert said == {f"{cores()} threads"}


UNSEEDED = """
import torch
from autocompress import Task
def task():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    return Task(name="real", model=torch.nn.Linear(4, 2), train=(x, y), val=(x[:32] + 1, y[:32]))
"""
SEEDED = UNSEEDED.replace("def task", "torch.manual_seed(0)\ndef task")


def test_task_is_open_again_after_a_death(bed: Bed):
    assert bed.open(SEEDED).name == "real"
    first = bed.made()
    bed.crash()
    assert bed.made().source.digest == first.source.digest


def test_a_fresh_worker_opens_the_task_with_what_another_found(bed: Bed):
    prepared = bed.open(SEEDED)
    bed.worker.close()
    bed.worker.opened(replace(prepared, fingerprint="another"), None)
    with pytest.raises(UsageError, match="holds a search of another task"):
        bed.made()
    bed.worker.opened(prepared, None)
    assert bed.made().macs > 0


def test_task_that_is_another_one_each_time_is_refused(bed: Bed):
    bed.open(UNSEEDED)
    bed.crash()
    with pytest.raises(UsageError, match="could be opened once and not again"):
        bed.made()

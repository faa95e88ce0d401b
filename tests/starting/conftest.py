"""A project as a user has it, and its task loaded on an import path that is put back."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from autocompress.data import call, read_data
from autocompress.starting.start import Started, start
from autocompress.task import Task
from autocompress.task_source import load_task

NETWORK = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x):
        return torch.relu(self.conv(x))


class Net(nn.Module):
    def __init__(self, num_classes, in_channels=3):
        super().__init__()
        self.first, self.second = Block(in_channels, 8), Block(8, 16)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        return self.head(self.second(self.first(x)).mean((2, 3)))
"""


SEQUENCES = """
from torch import nn

class Ears(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 4, 9, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.conv(x).mean(2))

class Rows(nn.Module):
    def __init__(self, in_features, outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(in_features, 8), nn.ReLU(), nn.Linear(8, outputs))

    def forward(self, x):
        return self.body(x)
"""

Begin = Callable[[Path], Started]
Load = Callable[[Started], Task]


def opens(task: Task) -> int:
    """Training examples; the model takes them, and the loss what it gives."""
    data, model = read_data(task), task.copy_of_model()
    batch = data.splits["train"].take(torch.arange(4))
    task.loss_fn(call(model, batch.inputs), batch.targets).backward()
    return len(data.splits["train"])


def take_first(question: str, answers: Sequence[str]) -> int:
    return 0


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a network of three classes of colour images, and no data."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "net.py").write_text(NETWORK)
    save(folder, "Net", "net.py", "num_classes=3")
    return folder


def save(folder: Path, name: str, file: str, arguments: str = "", weights: str = "net.pt") -> nn.Module:
    """The weights of a network of ``file``, as training leaves them."""
    held: dict[str, object] = {}
    exec(compile((folder / file).read_text(), file, "exec"), held)
    model = eval(f"{name}({arguments})", held)
    assert isinstance(model, nn.Module)
    torch.save(model.state_dict(), folder / weights)
    return model


@pytest.fixture
def begin() -> Callable[[Path], Started]:
    """``begin(folder)``: a task file, of the answers that looking found."""
    return lambda folder: start(folder, None, take_first)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Started], Task]]:
    """``loaded(started)``: the task of a written file."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before, folders = set(sys.modules), []

    def load(started: Started) -> Task:
        folders.append(str(started.file.resolve().parent))
        return load_task(f"{started.file}:task")

    yield load
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(tuple(folders)):
            del sys.modules[name]

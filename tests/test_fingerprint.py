"""What makes two tasks the same: what changes results and nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from autocompress.candidate.reading import read_task
from autocompress.fingerprint import COUNTED, PLURAL, differences_of, fingerprint_of, parts_of
from autocompress.plugin.loader import load_plugins
from autocompress.profile import load_profile
from autocompress.task import Task
from autocompress.task_source import load_task

TASK = '''
import argparse
import collections
import functools
import logging
import operator
import random
import re
import threading
import types
import torch
from torch import nn
import helper_of_print
from helper_of_print import scaled
from autocompress import Task

LIMIT = 0.5
KINDS = {"one", "two", "three", "four"}

class Net(nn.Module):
    """A network."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(2, 3)
        self.two = nn.Linear(3, 2)
        self.register_buffer("scale", torch.ones(3))
        self.log = open("/dev/null")
        self.own = [self]

    def forward(self, x):
        return self.two(self.middle(self.one(x)))

    def middle(self, x):
        return torch.relu(x) * self.scale

class Within:
    def __init__(self, tolerance):
        self.tolerance = tolerance

    def __call__(self, outputs, targets):
        return float((outputs[:, 0] - targets).abs().max() < self.tolerance)

    def soft(self, outputs, targets):
        return self.tolerance * scaled(outputs, targets)

def metric(outputs, targets):
    """How near."""
    found = (outputs.argmax(1) == targets).float()
    kept = [value for value in found if value > LIMIT and "one" in KINDS]
    return len(kept) / len(found) * scaled(outputs, targets) + helper_of_print.extra(0)

def noisy(inputs, strength=0.1):
    return inputs + strength

def closed(width):
    return lambda outputs, targets: width * outputs.mean()

def another():
    return 1

def holding(held):
    return lambda outputs, targets: held

def chain(length, last):
    for _ in range(length):
        last = types.SimpleNamespace(next=[{"next": (last,)}])
    return last

def task():
    torch.manual_seed(0)
    x, y = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    return Task("mine", Net(), (x, y), (x, y), metric=METRIC, loss=LOSS, augment=AUGMENT)
'''
HELPER = (
    "def scaled(outputs, targets):\n    return 1.0\n\ndef extra(x):\n    return x\n\ndef unused(x):\n    return x\n"
)
PARTS = {"METRIC": "metric", "LOSS": "'cross_entropy'", "AUGMENT": "functools.partial(noisy, strength=0.2)"}

Parts = Callable[..., dict[str, str]]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """``parts((old, new), ..., METRIC="...")``: of the task with the changes made in its file or in its helper's."""
    path, modules = list(sys.path), set(sys.modules)
    count = iter(range(100))

    def forget() -> None:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name.startswith(("helper_of_print", "task_of_print")):
                del sys.modules[name]

    def parts(*changes: tuple[str, str], data: str = "same", **given: str) -> dict[str, str]:
        forget()
        task, helper = TASK, HELPER
        for old, new in changes:
            assert old in task + helper
            task, helper = task.replace(old, new), helper.replace(old, new)
        for name, value in {**PARTS, **given}.items():
            task = task.replace(f"={name}", f"={value}")
        folder = tmp_path / str(next(count))
        folder.mkdir()
        (folder / "helper_of_print.py").write_text(helper)
        (folder / "task_of_print.py").write_text(task)
        return parts_of(load_task(str(folder / "task_of_print.py"))) | {"train": data}

    yield parts
    forget()


@pytest.mark.parametrize(
    "change",
    [
        ("def metric", "# how it is scored\n\ndef metric"),
        ('"""How near."""', '"""How near it is."""'),
        ('    """How near."""\n', ""),
        ('"""A network."""', "pass"),
        ("kept", "a_longer_name"),
        ("value", "v"),
        ("found", "abc"),
        ("len(kept) / len(found) * scaled(", "(len(kept)\n        / len(found)) * scaled("),
        ("return 1\n", "return 2\n"),
        ("def unused(x):\n    return x", "def unused(x):\n    return 3"),
        ('{"one", "two", "three", "four"}', '{"four", "three", "two", "one"}'),
    ],
    ids=str,
)
def test_what_changes_no_result_is_the_same_task(change: tuple[str, str], parts: Parts) -> None:
    assert parts(change) == parts()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (("manual_seed(0)", "manual_seed(1)"), "its weights differ"),
        (("torch.ones(3)", "torch.zeros(3)"), "its weights differ"),
        (("torch.relu(x)", "torch.tanh(x)"), "its model's structure or code differs"),
        (("> LIMIT", "< LIMIT"), "its metric differs"),
        (("LIMIT = 0.5", "LIMIT = 0.6"), "its metric differs"),
        (("return 1.0", "return 2.0"), "its metric differs"),
        (("def extra(x):\n    return x", "def extra(x):\n    return x + 1"), "its metric differs"),
        (("return inputs + strength", "return inputs - strength"), "its augment differs"),
    ],
    ids=str,
)
def test_a_change_is_told_by_the_part_it_is_in(change: tuple[str, str], part: str, parts: Parts) -> None:
    assert differences_of(parts(), parts(change)) == part


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("AUGMENT", "functools.partial(noisy, strength=0.2)", "functools.partial(noisy, strength=0.3)"),
        ("AUGMENT", "noisy", "functools.partial(noisy)"),
        ("LOSS", "nn.CrossEntropyLoss()", "nn.CrossEntropyLoss(label_smoothing=0.1)"),
        ("LOSS", "nn.CrossEntropyLoss(torch.ones(2))", "nn.CrossEntropyLoss(torch.zeros(2))"),
        ("LOSS", "nn.functional.cross_entropy", "nn.functional.mse_loss"),
        ("LOSS", "closed(1)", "closed(2)"),
        ("METRIC", "Within(1)", "Within(2)"),
        ("METRIC", "Within(1).soft", "Within(2).soft"),
        ("METRIC", "lambda o, t: 1.0", "lambda o, t: 2.0"),
        ("AUGMENT", "lambda x: scaled(x, size=2)", "lambda x: scaled(x, scale_factor=2)"),
    ],
)
def test_callables_of_all_kinds_are_told_apart(name: str, before: str, after: str, parts: Parts) -> None:
    one = parts(**{name: before})
    assert one == parts(**{name: before})
    assert differences_of(one, parts(**{name: after})) == f"its {name.lower()} differs"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("types.SimpleNamespace(a=1)", "types.SimpleNamespace(a=2)"),
        ("argparse.Namespace(a=1)", "argparse.Namespace(a=2)"),
        ("collections.deque([1, 2])", "collections.deque([2, 1])"),
        ("collections.deque([1], maxlen=1)", "collections.deque([1], maxlen=2)"),
        ("operator.itemgetter('a')", "operator.itemgetter('b')"),
        ("operator.methodcaller('a', b=1)", "operator.methodcaller('a', b=2)"),
        ("re.compile('a')", "re.compile('b')"),
        ("re.compile('a')", "re.compile('a', re.IGNORECASE)"),
        ("chain(3000, 1)", "chain(3000, 2)"),
    ],
)
def test_what_python_itself_defines_counts_by_what_it_holds(before: str, after: str, parts: Parts) -> None:
    one = parts(METRIC=f"holding({before})")
    assert one == parts(METRIC=f"holding({before})")
    assert differences_of(one, parts(METRIC=f"holding({after})")) == "its metric differs"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("random.Random(0)", "random.Random(1)"),
        ("logging.getLogger('a')", "logging.getLogger('b')"),
        ("(i for i in (1, 2))", "(i for i in (3, 4))"),
        ("threading.Lock()", "threading.Lock()"),
        ("threading.Thread(name='a')", "threading.Thread(name='b')"),
    ],
)
def test_what_differs_between_processes_counts_by_its_type(before: str, after: str, parts: Parts) -> None:
    assert parts(METRIC=f"holding({before})") == parts(METRIC=f"holding({after})")


def test_a_function_that_counts_its_calls_is_told_as_it_was_before_the_data_was_read(tmp_path: Path) -> None:
    calls: list[int] = []

    def batch(given: Any) -> Any:
        calls.append(len(calls))
        return given

    x, y = torch.arange(16.0).reshape(8, 2), torch.arange(8) % 2
    train, val = (DataLoader(TensorDataset(x + n, y), batch_size=4) for n in (0, 100))
    task = Task("counting", nn.Linear(2, 2), train, val, batch=batch)
    before = parts_of(task)
    runtime = load_plugins().runtime("onnxruntime")
    found = read_task(task, load_profile("cpu"), runtime, tmp_path / "reference.onnx", seed=0)
    assert calls, "reading the data calls it"
    assert {name: found.parts[name] for name in before} == before
    assert {"train", "val"} <= set(found.parts)


def test_several_differences_are_all_named(parts: Parts) -> None:
    now = parts(METRIC="'accuracy'", LOSS="'mse'", data="other")
    assert differences_of(parts(), now) == "its metric, its loss and its training data differ"
    assert differences_of({}, now) == "", "a run of an earlier version kept no parts"
    assert fingerprint_of(now) != fingerprint_of(parts())


def test_a_student_of_what_lies_on_this_machine_is_no_part_of_the_task() -> None:
    class Found:
        def __init__(self, *names: str, of_this_machine: bool = True) -> None:
            self.names, self.of_this_machine = names, of_this_machine

        def __call__(self, width: float) -> nn.Module:
            return nn.Linear(2, 2)

    data = (torch.zeros(2, 2), torch.zeros(2, dtype=torch.long))
    task = Task("it", nn.Linear(2, 2), data, data)
    none, one, other, own = (
        parts_of(replace(task, student=student))
        for student in (None, Found("a"), Found("a", "b"), Found("a", of_this_machine=False))
    )
    assert none == one == other
    assert own.keys() - none.keys() == {"student"}


def test_what_is_named_in_the_plural_is_a_part() -> None:
    assert {"weights", "frozen", "keep", "train", "val", "test", *COUNTED} >= PLURAL


def test_it_is_the_same_in_every_process(parts: Parts, tmp_path: Path) -> None:
    here = parts(METRIC="Within(1).soft")
    code = (
        "import sys; from autocompress.task_source import load_task; from autocompress.fingerprint import *\n"
        "print(fingerprint_of(parts_of(load_task(sys.argv[1])) | {'train': 'same'}))"
    )
    file = str(tmp_path / "0" / "task_of_print.py")
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    said = subprocess.run(
        [sys.executable, "-c", code, file], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == fingerprint_of(here)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        return self.two(self.one(x))


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def compiled_inside(model: Any) -> nn.Module:
    model.one = compiled(model.one)
    return model


@pytest.mark.parametrize("change", [compiled, compiled_inside, nn.DataParallel], ids=lambda change: change.__name__)
def test_a_model_that_is_compiled_or_wrapped_makes_the_same_task(change: Callable[[nn.Module], nn.Module]) -> None:
    pair = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    parts = []
    for wrap in (lambda model: model, change):
        torch.manual_seed(0)
        parts.append(parts_of(Task("own", wrap(Own()), pair, pair)))
    assert differences_of(*parts) == ""

"""What the tests share: a network and data small enough to train in a moment, and a runtime whose clock is arithmetic.

``FakeRuntime`` runs the real ONNX file for its outputs and reads the clock from the file's multiply-accumulates,
quantized ones at half the time, so a search on the profile ``fake`` is deterministic, and as fast as its trainings.
"""

import asyncio
import copy
import itertools
import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Read when torch is loaded, here and in every process that a test starts: threads that spin while they wait for each
# other take most of the time of a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import tests.recordings  # noqa: F401  (before numpy: it is to compute alike on every processor)

# isort: split
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from autocompress.budget import Budget
from autocompress.candidate.count import count
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.request import TrainRequest
from autocompress.comparison import TimingSession
from autocompress.compute.in_process import opened_in_process
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Outcome
from autocompress.explore.opening.opening import Opening
from autocompress.explore.opening.reference import open_task
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.latency import Latency
from autocompress.measure import latency_of
from autocompress.plugin.contract import Array, Feed, Runtime, Session
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, Step
from autocompress.storage.folder import RunFolder
from autocompress.task import Task

torch.set_num_threads(1)  # the machine has few cores, and tiny models gain nothing from a second one

CLASSES = 4
MS_PER_MAC = 1e-5
Examples = tuple[Tensor, Tensor]


class TinyNet(nn.Module):
    """(N, 1, 8, 8) -> (N, 4)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        return self.head(torch.relu(self.conv2(x)).mean((2, 3)))


def make_examples(size: int, seed: int) -> Examples:
    """Images of four kinds of stripes, drowned in noise enough that no network is always right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % CLASSES
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    kinds = torch.stack(
        [torch.sin(w) for w in (rows * 1.5, columns * 1.5, (rows + columns) * 1.2, rows * columns * 0.7)]
    )
    images = kinds[labels][:, None] + 1.5 * torch.randn(size, 1, 8, 8, generator=generator)
    order = torch.randperm(size, generator=generator)
    return images[order], labels[order]


class FakeSession(Session):
    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise CandidateFailed(f"the fake runtime cannot load the file: {error}") from error
        quantized = any(node.op_type == "DequantizeLinear" for node in onnx.load(str(path)).graph.node)
        self.macs = count(path)[1] * (0.5 if quantized else 1.0)

    @property
    def input_names(self) -> Sequence[str]:
        return [i.name for i in self._session.get_inputs()]

    def run(self, feed: Feed) -> Sequence[Array]:
        return self._session.run(None, feed)


class FakeRuntime(Runtime):
    """Outputs of ONNX Runtime; a clock that reads ``ms_per_mac`` for each multiply-accumulate of the file, half of that
    where it is quantized.
    """

    name = "fake"
    ms_per_mac = MS_PER_MAC

    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        return frozenset()

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        return FakeSession(path)

    def clock(self, session: Session, feed: Feed) -> float | None:
        assert isinstance(session, FakeSession)
        return max(session.macs, 1) * self.ms_per_mac

    def version(self) -> str:
        return "0"


@pytest.fixture(scope="session")
def trained_tiny() -> nn.Module:
    """Trained once for all tests; use ``tiny_model``, which is a copy."""
    x, y = make_examples(256, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TinyNet().train()
        optimizer = torch.optim.Adam(model.parameters(), 2e-2)
        for step in range(60):
            at = torch.arange(step * 64, step * 64 + 64) % 256
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[at]), y[at]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture
def tiny_model(trained_tiny: nn.Module) -> nn.Module:
    """Two convolutions, batch norm and a linear layer on 8x8 images, trained: far better than chance, not perfect."""
    return copy.deepcopy(trained_tiny)


@pytest.fixture(scope="session")
def examples() -> Callable[[int, int], Examples]:
    """``examples(size, seed)``: images and labels the tiny model knows."""
    return make_examples


@pytest.fixture(scope="session")
def make_tiny_task() -> Callable[[nn.Module], Task]:
    """``make_tiny_task(model)``: with 256 training, 96 validation and 96 test examples."""

    def make(model: nn.Module) -> Task:
        train, val, test = (make_examples(size, seed) for seed, size in enumerate((256, 96, 96), start=1))
        return Task(name="tiny", model=model, train=train, val=val, test=test)

    return make


@pytest.fixture
def tiny_task(tiny_model: nn.Module, make_tiny_task: Callable[[nn.Module], Task]) -> Task:
    """The tiny model with 256 training, 96 validation and 96 test examples."""
    return make_tiny_task(tiny_model)


class Branches(nn.Module):
    """Every example takes the same branch, so that a trace agrees on all of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) if x.max() > -1e6 else self.net(-x)


@pytest.fixture
def branching_task(tiny_task: Task) -> Task:
    """The tiny task with data-dependent control flow in its model."""
    return replace(tiny_task, model=Branches(tiny_task.copy_of_model()))


@pytest.fixture(scope="session")
def installed_plugins() -> PluginSet:
    return load_plugins()


@pytest.fixture
def fake_runtime() -> FakeRuntime:
    return FakeRuntime()


def with_runtime(plugins: PluginSet, runtime: FakeRuntime) -> PluginSet:
    return replace(
        plugins,
        strategies=dict(plugins.strategies),
        runtimes={**plugins.runtimes, "fake": runtime},
        spaces=dict(plugins.spaces),
        origin={**plugins.origin, "runtimes:fake": "tests"},
    )


@pytest.fixture
def plugins(installed_plugins: PluginSet, fake_runtime: FakeRuntime) -> PluginSet:
    """Everything installed, and the runtime ``fake``. Its dictionaries are this test's own."""
    return with_runtime(installed_plugins, fake_runtime)


@pytest.fixture(scope="session")
def shared_plugins(installed_plugins: PluginSet) -> PluginSet:
    """The same for what is opened once for many tests, none of which may change it."""
    return with_runtime(installed_plugins, FakeRuntime())


@pytest.fixture
def dynamo_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the dynamo exporter take half the time on the runtime ``fake``."""
    opened = FakeSession.__init__

    def init(session: FakeSession, path: Path) -> None:
        opened(session, path)
        if not any(node.name.startswith("/model/") for node in onnx.load(str(path)).graph.node):
            session.macs *= 0.5

    monkeypatch.setattr(FakeSession, "__init__", init)


@pytest.fixture(scope="session")
def fake_profile() -> HardwareProfile:
    return HardwareProfile(name="fake", runtime="fake")


def timing_session(ratio: float = 1.0, statistic: float | None = None, *, quiet: bool = True) -> TimingSession:
    """Beside a reference of 1 ms; no two are equal."""
    ms, log_ratio = ratio if statistic is None else statistic, math.log(ratio)
    blocks = 20 if quiet else 0
    return TimingSession(log_ratio, log_ratio, ms, ms, 0.9 * ms, ms, 0.9, blocks, 40, at_s=next(MOMENTS))


MOMENTS = (number / 1024 for number in itertools.count())


@pytest.fixture(scope="session")
def make_session() -> Callable[..., TimingSession]:
    """``make_session(0.5)``: one timing session of a file beside a reference of 1 ms."""
    return timing_session


@pytest.fixture(scope="session")
def make_latency() -> Callable[..., Latency]:
    """``make_latency(ratio=0.5)``: what so many sessions say that agree, of a file beside a reference of 1 ms."""

    def make(
        ratio: float = 1.0, statistic: float | None = None, *, sessions: int = 3, quiet: bool = True, **others: Any
    ) -> Latency:
        latency = latency_of([timing_session(ratio, statistic, quiet=quiet) for _ in range(sessions)])
        return replace(latency, **others)

    return make


@dataclass(frozen=True)
class OpenedHere:
    """A task opened in this process, for candidates without a search around them."""

    opening: Opening
    pipeline: Pipeline
    task: OpenTask

    @classmethod
    def of(
        cls,
        task: Task,
        profile: HardwareProfile,
        plugins: PluginSet,
        folder: RunFolder,
        only: Collection[str] | None = None,
        seed: int = 0,
        compare_exporters: bool = True,
    ) -> "OpenedHere":
        used = None if only is None else list(only)
        folder.root.mkdir(parents=True, exist_ok=True)
        here = opened_in_process(task, profile, plugins, folder, used, seed=seed)
        opened = open_task(
            here.operations, here.prepared, folder, profile, seed, used, compare_exporters=compare_exporters
        )
        opening, pipeline = asyncio.run(opened)
        return cls(opening, pipeline, here.computation.opened)

    def gate(self, recipe: Recipe, budget: Budget) -> Gate:
        return asyncio.run(self.pipeline.gate(recipe, budget, math.inf))

    def evaluate(self, recipe: Recipe, examples: int = 0, skip: Sequence[Step] = (), **request: Any) -> Outcome:
        asked = TrainRequest(recipe, examples=examples, **request)
        return asyncio.run(self.pipeline.evaluate(asked, skip=skip, limit_s=math.inf))

    def look_at(self, recipe: Recipe) -> Outcome:
        """Before any training."""
        asked = TrainRequest(recipe)
        return asyncio.run(self.pipeline.evaluate(asked, limit_s=math.inf, first_look=True))


@pytest.fixture(scope="session")
def open_here() -> Callable[..., OpenedHere]:
    """``open_here(task, profile, plugins, folder)``: a task opened in this process."""
    return OpenedHere.of


@pytest.fixture(scope="session")
def open_quickly(fake_profile: HardwareProfile) -> Callable[..., OpenedHere]:
    """``open_quickly(task, plugins, folder, only=names)``: the same on the profile ``fake``, exported by the quick
    exporter alone: the other takes ten times as long.
    """

    def open_quickly(task: Task, plugins: PluginSet, folder: Path, only: Collection[str] | None = None) -> OpenedHere:
        return OpenedHere.of(task, fake_profile, plugins, RunFolder(folder), only, compare_exporters=False)

    return open_quickly

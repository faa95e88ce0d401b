"""What a candidate is made with, and what is asked and answered of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.evaluate import Latency, running
from autocompress.candidate.measure import Effort, Timer, measure, timer
from autocompress.candidate.room import Room
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.structure import KnownPlans
from autocompress.candidate.supervisor import Supervisor
from autocompress.data import Split
from autocompress.plugin.contract import Context, Feed, Runtime, Session
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, Step
from autocompress.run.folder import RunFolder
from autocompress.run.store import Store
from autocompress.task import Task


@dataclass(frozen=True)
class Trainer:
    """What trainings share: the examples in their order with the teacher's outputs, and how to compute."""

    stream: TrainStream
    arithmetic: Arithmetic


@dataclass(frozen=True)
class Bench:
    """What every candidate needs and none changes. ``preparation`` makes it, for gating; ``opening`` completes it.

    variants: (strategy, parameters) of each graph variant with its ratio on the reference, the fastest first; in no
    order and with a ratio of 1 until they were timed there. trainer: None before training is possible.
    """

    task: Task
    profile: HardwareProfile
    plugins: PluginSet
    folder: RunFolder
    store: Store
    context: Context
    val: Split
    test: Split | None
    exporter: str
    fingerprint: str
    feeds: Sequence[Feed]
    reference: Timer
    room: Room
    supervisor: Supervisor
    plans: KnownPlans | None = None
    variants: tuple[tuple[Step, float], ...] = ()
    trainer: Trainer | None = None

    @property
    def runtime(self) -> Runtime:
        return self.plugins.runtime(self.profile.runtime)

    def open(self, path: Path) -> Session:
        """An ONNX file, ready to run on the target."""
        return self.runtime.open(path, self.profile)

    def time(
        self,
        path: Path,
        effort: Effort,
        stop: Callable[[Latency], bool] | None = None,
        anyway: Callable[[Latency], bool] | None = None,
    ) -> Latency:
        """Latency of a file beside the reference, while nothing else of the search computes; see ``measure``."""
        with self.supervisor.during("measure", "measure"):
            candidate = timer(self.runtime, self.open(path), self.feeds)
            with self.room.measuring(), running():
                return measure(candidate, self.reference, self.profile, effort=effort, stop=stop, anyway=anyway)


@dataclass(frozen=True)
class Request:
    """One family to evaluate. rung: which training this is. checkpoint, plans: what an earlier rung left.

    start, examples: the piece of the training stream; examples = 0 trains nothing. limit_s: seconds there are for it
    now. length_s: that it takes in all, with what was trained of it before it was cut off; None for as long as there
    is. learned: what an earlier rung's hooks learned beside the weights. skip: graph variants not to make.
    worth_below: the latency ratio at and above which a file adds nothing to the front, whatever it scores.
    """

    recipe: Recipe
    rung: int = 0
    start: int = 0
    examples: int = 0
    limit_s: float | None = None
    length_s: float | None = None
    checkpoint: str | None = None
    plans: tuple[dict[str, Any], ...] | None = None
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skip: tuple[Step, ...] = ()
    worth_below: float | None = None


@dataclass(frozen=True)
class Gate:
    """The untrained structure, exported and timed as its fastest variant. slower: variants that were surely no faster
    than the float file they were made from. macs: multiply-accumulates of one call.
    """

    latency: Latency
    plans: tuple[dict[str, Any], ...]
    slower: tuple[Step, ...] = ()
    macs: int = 0

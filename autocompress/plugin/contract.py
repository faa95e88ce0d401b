"""What a plug-in author implements: a strategy has one or several of three parts, each a narrow contract.

- structure: ``plan`` decides, ``apply`` changes a copy of the model (``StructureStrategy``);
- training: ``hook`` adds to the one training loop (``TrainingStrategy``);
- graph: ``variants`` and ``apply`` rewrite an ONNX file (``GraphStrategy``).

A strategy with two parts inherits from both. A strategy never names another: conflicts are tags.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt
from torch import Tensor, nn

from autocompress.data import Batch, Split, spread
from autocompress.profile import HardwareProfile
from autocompress.recipe import Plan, Value
from autocompress.task import Inputs, Task

T = TypeVar("T")
Params = Mapping[str, Value]
Array = npt.NDArray[Any]
Feed = Mapping[str, Array]

TIMED_EXAMPLES = 4  # training examples, at most, for a file that is only timed


class Stage(IntEnum):
    """When a part acts. The order among STRUCTURE strategies is part of the search."""

    BUILD = 0
    STRUCTURE = 1
    TRAIN = 2
    GRAPH = 3


@dataclass(frozen=True)
class Parameter:
    """One parameter of a strategy, with a fixed list of choices.

    choices: at least one; numbers are searched as ordered, in the order given. default: one of them.
    by_strength: the choices go from the mildest to the one that makes the fastest model. The floor (the fastest
    model the space allows) and the first recipes are found along such parameters.
    """

    name: str
    choices: tuple[Value, ...]
    default: Value
    by_strength: bool = False

    def __post_init__(self) -> None:
        if not self.choices or len(set(self.choices)) != len(self.choices) or len(self.choices) > 1000:
            raise ValueError(f"parameter {self.name}: expected 1 to 1000 distinct choices, got {len(self.choices)}")
        if self.default not in self.choices:
            raise ValueError(f"parameter {self.name}: default {self.default!r} is not among {self.choices}")

    @property
    def ordered(self) -> bool:
        return self.by_strength or all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in self.choices)


@dataclass(frozen=True)
class Context:
    """What a strategy may look at. It changes none of it.

    runtime: what opens and runs files on the target. model: the reference, a copy in evaluation mode. example_inputs:
    the task's, or a batch of two. reference: its exported ONNX file. feeds: up to N training examples as the runtime's
    inputs, at the profile's batch. scored: whether what is made will be scored; where it is only timed, ``feeds`` gives
    four examples at most, and a strategy can leave out what betters scores alone. learned: for a graph part, what the
    training hooks of this candidate learned (``TrainHook.learned``), by strategy. memory: what ``once`` keeps.

    What a strategy says of itself is asked before anything is scored, of the file of the first exporter that works.
    Strategies with a graph part are asked again when it is settled which exporter's file the reference is, with
    ``scored`` true.
    """

    task: Task
    profile: HardwareProfile
    runtime: "Runtime"
    model: nn.Module
    example_inputs: Inputs
    train: Split
    reference: Path
    seed: int
    feeds: Callable[[int], Iterator[Feed]]
    scored: bool = True
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    memory: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What ``compute`` gave when ``key`` was first asked for, by any strategy; nothing is kept when it raises.

        For what takes long to find out of the reference and its data: it lives as long as the opened task, in this
        process. A key says whose it is ("my_strategy.order"). A plan may be made with it; ``apply`` may not need it.
        """
        if key not in self.memory:
            self.memory[key] = compute()
        kept: T = self.memory[key]
        return kept

    def for_timing(self) -> "Context":
        """The same for what is only timed, and with few examples: ranges do not change what an operator costs."""
        return replace(self, scored=False, feeds=lambda count: self.feeds(min(count, TIMED_EXAMPLES)))

    def train_batches(self, examples: int, batch_size: int = 64) -> Iterator[Batch]:
        """``examples`` training examples spread over the split, in batches, without augmentation."""
        indices = spread(len(self.train), examples)
        for start in range(0, len(indices), batch_size):
            yield self.train.take(indices[start : start + batch_size])


class Strategy:
    """One technique. Subclass with one or several of the parts below.

    name: unique among the installed ones. summary: one line for a list. provides, excludes: tags; two steps conflict
    when one excludes what the other provides. precision: the number format it leaves the model in, checked against
    the profile's.
    """

    name: str
    summary: str = ""
    provides: frozenset[str] = frozenset()
    excludes: frozenset[str] = frozenset()
    precision: str | None = None

    def parameters(self, context: Context) -> Sequence[Parameter]:
        """What the search may choose. Parameters of a graph strategy are its ``variants`` instead."""
        return ()

    def refuses(self, context: Context) -> str | None:
        """Why this strategy does not apply to this task, in words for the user; None when it applies."""
        return None

    def size_only(self, context: Context) -> str | None:
        """Why this strategy makes files smaller and nothing faster on this target; None when it may save time.

        A search is for speed: it leaves such a strategy out unless its search space names it.
        """
        return None


@dataclass(frozen=True)
class Sensitivity:
    """How much a part of the model matters: ``loss`` is what the task's training loss rises by, over a sample of
    training examples and without any training, when ``share`` of the group is removed. Finite.
    """

    group: str
    units: int
    share: float
    loss: float


class StructureStrategy(Strategy, ABC):
    """Changes the model's structure: builds a student, prunes, drops layers, factorizes, ties."""

    stage: Stage = Stage.STRUCTURE

    @abstractmethod
    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        """Decide, without changing ``model``. The plan is JSON and replays without data. Raises CandidateFailed."""

    @abstractmethod
    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        """Carry the plan out on ``model`` (a private copy, may be changed in place) and return the result."""

    def sensitivity(self, context: Context) -> Sequence[Sensitivity]:
        """What ``inspect`` shows of the parts of the model that this strategy can shrink, most sensitive first."""
        return ()

    def left_alone(self, context: Context) -> Mapping[str, str]:
        """What ``inspect`` shows of the parts that this strategy changes in other models and leaves as they are in this
        one: why, by the name of the module. Asked whether or not the strategy applies.
        """
        return {}


@dataclass(frozen=True)
class Step:
    """One optimizer step, as a training hook sees it. ``progress`` runs from 0 to 1 over this training; for a candidate
    that is trained on later it starts again from 0.

    teacher: the reference model's outputs for this very batch (N, ...), or None when no hook asked for them.
    features, teacher_features: what the modules named in ``TrainHook.layers`` and ``TrainHook.teacher_layers`` gave for
    this batch, in float32; the teacher's carry no gradient.
    """

    inputs: Inputs
    targets: Tensor
    outputs: Tensor
    teacher: Tensor | None
    progress: float
    features: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LossTerm:
    """``weight * value`` is added to the loss; the task's own loss is multiplied by ``task_scale``."""

    value: Tensor
    weight: float
    task_scale: float = 1.0


class TrainHook:
    """What one strategy adds to the training loop. Override what is needed. Each training has a hook of its own."""

    needs_teacher: bool = False
    starts_at: float = 0.0  # fraction of this training after which ``loss`` and ``after_step`` are called
    layers: Sequence[str] = ()  # modules of the trained model whose outputs ``loss`` wants; read after ``wrap``
    teacher_layers: Sequence[str] = ()  # and of the reference

    def resume(self, learned: Mapping[str, Any]) -> None:
        """Before ``wrap``, when training goes on from a checkpoint: what ``learned`` gave at its end."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Before training: insert modules (fake quantization), make what ``parameters`` gives.

        The model is on the CPU here and goes to the device it is trained on afterwards, as do ``parameters``: a tensor
        that a hook keeps for itself has to follow.
        """
        return model

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters outside the model to be trained with it (adapters); they are not kept."""
        return ()

    def loss(self, step: Step) -> LossTerm | None:
        """A term of the loss for this step."""
        return None

    def after_step(self, model: nn.Module, progress: float) -> None:
        """After the optimizer's step: apply masks, update schedules."""

    def unwrap(self, model: nn.Module) -> nn.Module:
        """After training: remove what ``wrap`` inserted."""
        return model

    def learned(self) -> Mapping[str, Any]:
        """After ``unwrap``: what was learned beside the weights, as JSON; the graph part finds it in its context."""
        return {}


class TrainingStrategy(Strategy, ABC):
    """Adds to the one training loop, which the core owns.

    trains_alone: enough by itself to train a changed structure back. Every changed structure is trained by at least one
    such strategy; the first recipes use the first of them.
    """

    trains_alone: bool = False

    @abstractmethod
    def hook(self, params: Params, context: Context) -> TrainHook:
        """The hook of one training."""


class GraphStrategy(Strategy, ABC):
    """Rewrites the exported ONNX file. None of its variants is sampled: all are made of every candidate that they go
    with, and timed. One whose timing shows already that it adds nothing is not scored, and one that is slower than the
    float file again and again is not made any more.

    The graph part of a strategy that also has another part acts only on candidates whose recipe has that step.
    """

    @abstractmethod
    def variants(self, context: Context) -> Sequence[Params]:
        """The parameter sets worth measuring on this task, most promising first; with ``context.scored`` false at least
        one that is as fast as any of these, to find the floor with.
        """

    @abstractmethod
    def apply(self, source: Path, target: Path, params: Params, context: Context) -> None:
        """Read the ONNX file ``source`` (float32, constants folded) and write ``target``. Raises CandidateFailed.

        The gate calls it before any training, with ``context.scored`` false and nothing in ``context.learned``.
        """


class Session(ABC):
    """An opened model, ready to run."""

    @property
    @abstractmethod
    def input_names(self) -> Sequence[str]:
        """Names of the graph's inputs, in order."""

    @abstractmethod
    def run(self, feed: Feed) -> Sequence[Array]:
        """Run one call and return the outputs in order."""


@dataclass(frozen=True)
class OperatorTime:
    """One node of a graph: milliseconds of one call, and its share of the whole, 0..1."""

    name: str
    operator: str
    ms: float
    share: float


class Runtime(ABC):
    """Opens ONNX files on a target. Latency is what a caller of ``Session.run`` waits.

    faster_with: what may make a call faster beside fewer operations: "float16"; "zeros", weights most of which are
    zero; "few_values", weights that take a few values only. What is not among them saves size alone. For most targets
    the default holds: dense kernels multiply by any number alike.
    """

    name: str
    faster_with: frozenset[str] = frozenset({"float16"})

    @abstractmethod
    def open(self, path: Path, profile: HardwareProfile) -> Session:
        """Load ``path`` with the profile's threads pinned. Raises CandidateFailed when the runtime cannot."""

    def version(self) -> str:
        return "unknown"

    def clock(self, session: Session, feed: Feed) -> float | None:
        """Milliseconds of one call on the target's own clock (a remote device, a fake); None: time ``Session.run``
        here.
        """
        return None

    def operators(self, path: Path, profile: HardwareProfile, feeds: Sequence[Feed]) -> Sequence[OperatorTime] | None:
        """Where the time of a file goes, by the runtime's own profile; None when it keeps none."""
        return None


@dataclass(frozen=True)
class Refusal:
    """A strategy that does not apply, and why."""

    strategy: str
    reason: str


@dataclass(frozen=True)
class Applicable:
    """A strategy that applies here, as the search sees it: plain data, sent between processes."""

    name: str
    stages: tuple[Stage, ...]
    parameters: tuple[Parameter, ...] = ()
    provides: frozenset[str] = frozenset()
    excludes: frozenset[str] = frozenset()
    variants: tuple[dict[str, Value], ...] = field(default=())
    size_only: str | None = None
    trains_alone: bool = False


def stages_of(strategy: Strategy) -> tuple[Stage, ...]:
    """The stages a strategy acts in, by the parts it has."""
    stages: list[Stage] = []
    if isinstance(strategy, StructureStrategy):
        stages.append(strategy.stage)
    if isinstance(strategy, TrainingStrategy):
        stages.append(Stage.TRAIN)
    if isinstance(strategy, GraphStrategy):
        stages.append(Stage.GRAPH)
    return tuple(stages)


__all__ = [
    "Applicable",
    "Array",
    "Batch",
    "Context",
    "Feed",
    "GraphStrategy",
    "LossTerm",
    "OperatorTime",
    "Parameter",
    "Params",
    "Plan",
    "Refusal",
    "Runtime",
    "Sensitivity",
    "Session",
    "Stage",
    "Step",
    "Strategy",
    "StructureStrategy",
    "TrainHook",
    "TrainingStrategy",
    "stages_of",
]

"""A strategy and its parts; ``contract`` says how they go together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from torch import nn

from autocompress.plugin.context import Context
from autocompress.plugin.counterparts import Counterparts
from autocompress.plugin.training import TrainHook
from autocompress.recipe import Plan, Value

Params = Mapping[str, Value]
NORM_BEFORE = "norm_before/"  # begins the names of weights in a file that a batch norm in front of the layer is part of


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

    def left_alone(self, context: Context) -> Mapping[str, str]:
        """What ``inspect`` shows of the parts that this strategy changes in other models and leaves as they are in this
        one: why, by the name of the module, or of the output. Asked whether or not the strategy applies.
        """
        return {}

    def size_only(self, context: Context) -> str | None:
        """Why this strategy makes files smaller and nothing faster on this target; None when it may save time.

        A search is for speed: it leaves such a strategy out unless its search space names it.
        """
        return None


@dataclass(frozen=True)
class ShrinkableGroup:
    """Units of the reference that a strategy can remove while it leaves all others, so that the core can find out how
    many of them can go.

    name: what a user knows it by; no two of a strategy have the same. units: how many there are. counts: how many of
    them can go at a time, ascending; of a block that goes as a whole one number. plan_without: ``plan_without(count)``
    is the plan by which ``apply`` takes ``count`` of them out of the reference, those that matter least. It raises
    CandidateFailed.
    """

    name: str
    units: int
    counts: Sequence[int]
    plan_without: Callable[[int], Plan]


class StructureStrategy(Strategy, ABC):
    """Changes the model's structure: builds a student, prunes, drops layers, factorizes, ties."""

    stage: Stage = Stage.STRUCTURE

    @abstractmethod
    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        """Decide, without changing ``model``. The plan is JSON and replays without data. Raises CandidateFailed."""

    @abstractmethod
    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        """Carry the plan out on ``model`` (a private copy, may be changed in place) and return the result."""

    def counterparts(self, model: nn.Module, plan: Plan, context: Context) -> Counterparts | None:
        """Which layers of what ``apply`` makes of ``model`` stand for which of those before, so that the core can refit
        what they read to what they gave. ``model`` is as it was before the step, and is not changed. None: nothing of
        the step is repaired.
        """
        return None

    def shrinkable_groups(self, context: Context) -> Sequence[ShrinkableGroup]:
        """The groups of the reference of which ``inspect`` finds out how much can go, those first that are most worth
        shrinking: time may not suffice for all.
        """
        return ()


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
        """Read the ONNX file ``source`` (float32, constants and batch norms folded: behind weights named
        ``NORM_BEFORE...`` is no tensor of what enters the layer in the module) and write ``target``. Raises
        CandidateFailed.

        The gate calls it before any training, with ``context.scored`` false and nothing in ``context.learned``.
        """

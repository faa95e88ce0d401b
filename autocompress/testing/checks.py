"""What the checks of a strategy share: the strategy opened on a task, and how outputs are judged."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from autocompress.classes import class_axis, class_count
from autocompress.data import ScoredSet, call
from autocompress.nested import primary
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import (
    GraphStrategy,
    LossTerm,
    Strategy,
    StructureStrategy,
    TrainHook,
    TrainingStrategy,
    TrainStep,
)
from autocompress.task import Task
from autocompress.testing import tasks
from autocompress.testing.lab import Lab, untouched

SAME_CLASS = 0.8  # share of examples on which a graph variant keeps the class
RELATIVE_ERROR = 0.1  # where there are no classes


class Neighbour(TrainHook):
    """The hook of another strategy in the same recipe."""

    needs_teacher = True

    def __init__(self) -> None:
        self.steps = 0

    def loss(self, step: TrainStep) -> LossTerm:
        return LossTerm(step.outputs.square().mean(), 0.01)

    def after_step(self, model: torch.nn.Module, progress: float) -> None:
        self.steps += 1

    def learned(self) -> Mapping[str, Any]:
        return {"steps": self.steps}


class Checks:
    """``StrategyConformance`` says what is set."""

    strategy: ClassVar[Strategy]
    task: ClassVar[Callable[[], Task] | None] = None
    refused_task: ClassVar[Callable[[], Task] | None] = None
    tolerance: ClassVar[float | None] = None

    @pytest.fixture
    def lab(self, tmp_path_factory: pytest.TempPathFactory) -> Lab:
        """The strategy on a task it applies to; opened once for the class."""
        kit = type(self)
        if "_lab" not in vars(kit):
            kit._lab = kit._opened(tmp_path_factory)  # type: ignore[attr-defined]
        return kit._lab  # type: ignore[attr-defined, no-any-return]

    @classmethod
    def _opened(cls, folders: pytest.TempPathFactory) -> Lab:
        refusals = []
        for make in tasks.ALL if cls.task is None else (cls.task,):
            lab = Lab.open(cls.strategy, make(), folders.mktemp("lab"))
            reason = cls._refusal(lab)
            if reason is None:
                return lab
            refusals.append(f"{lab.context.task.name}: {reason}")
        raise AssertionError(
            f"the strategy refuses every task ({'; '.join(refusals)}): set `task` to one it applies to"
        )

    @classmethod
    def _refusal(cls, lab: Lab) -> str | None:
        with untouched(lab.context.model, "refuses"):
            reason = cls.strategy.refuses(lab.context)
        assert reason is None or is_sentence(reason), f"refuses must answer None or a reason in words, not {reason!r}"
        return reason

    @pytest.fixture
    def structure(self) -> StructureStrategy:
        assert isinstance(self.strategy, StructureStrategy)
        return self.strategy

    @pytest.fixture
    def training(self) -> TrainingStrategy:
        assert isinstance(self.strategy, TrainingStrategy)
        return self.strategy

    @pytest.fixture
    def graph(self) -> GraphStrategy:
        assert isinstance(self.strategy, GraphStrategy)
        return self.strategy

    def _runs(self, lab: Lab, model: torch.nn.Module, when: str) -> None:
        inputs = lab.context.example_inputs
        with torch.no_grad():
            expected, got = (primary(call(m, inputs)) for m in (lab.context.model, evaluating(model)))
        self._finite(got, expected, f"the model {when}")

    def _finite(self, outputs: Tensor, expected: Tensor, whose: str) -> None:
        assert outputs.shape == expected.shape, (
            f"{whose} gives outputs of shape {tuple(outputs.shape)}, the model before it {tuple(expected.shape)}"
        )
        assert outputs.isfinite().all(), f"{whose} gives NaN or infinite outputs"

    def _agree(self, lab: Lab, outputs: Tensor, expected: Tensor, whose: str) -> None:
        targets = ScoredSet(lab.context.task, lab.val, lab.context.layout).targets
        if self.tolerance is None and class_count(expected, targets):
            axis = class_axis(expected, targets, lab.context.task.classes_last)
            share = float((outputs.argmax(axis) == expected.argmax(axis)).float().mean())
            assert share >= SAME_CLASS, f"{whose} keeps the class of {share:.0%} of the examples, not {SAME_CLASS:.0%}"
            return
        limit = RELATIVE_ERROR if self.tolerance is None else self.tolerance
        error = float((outputs - expected).norm() / expected.norm())
        assert error <= limit, f"{whose} has a relative error of {error:.2g}, allowed {limit:g}: see `tolerance`"


def is_sentence(text: object) -> bool:
    """One line of words."""
    return isinstance(text, str) and bool(text.strip()) and "\n" not in text


def is_value(value: object) -> bool:
    """Whether it may be a parameter's: true/false, a finite number or a word."""
    return isinstance(value, (int, str)) or (isinstance(value, float) and math.isfinite(value))


def is_plain(value: object) -> bool:
    """Whether a value comes back from JSON as it went in; a tuple may come back as a list."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or is_value(value)

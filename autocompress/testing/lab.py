"""A strategy at work on one task: each part called the way a search calls it, and the results looked at."""

import copy
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.count import count
from autocompress.candidate.export import check, export
from autocompress.candidate.make import CHECKED_BATCHES
from autocompress.candidate.reading import read_task
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.teacher import Teacher
from autocompress.candidate.train import Schedule, Trained, train
from autocompress.data import Split, feed_of, profile_inputs, seeded
from autocompress.errors import CandidateFailed
from autocompress.measure import outputs_of
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import (
    Context,
    GraphStrategy,
    Parameter,
    Params,
    Runtime,
    Strategy,
    StructureStrategy,
    TrainHook,
    TrainingStrategy,
)
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile
from autocompress.recipe import Value
from autocompress.task import Task

SEED = 0
LEARNING_RATE = 1e-3
LAB_BATCH = 32
LAB_EXAMPLES = 8 * LAB_BATCH
FEW_EXAMPLES = 4 * LAB_BATCH  # where two trainings are compared, or one begins where another ended
EXPORTER = "torchscript"  # the quicker one; the other stands in where it fails


@dataclass(frozen=True)
class Lab:
    """``strategy`` on one opened task. What it raises comes through as it was raised."""

    strategy: Strategy
    context: Context
    val: Split
    runtime: Runtime
    folder: Path

    @classmethod
    def open(cls, strategy: Strategy, task: Task, folder: Path) -> "Lab":
        profile = HardwareProfile(name="conformance")
        read = read_task(task, profile, _runtime(profile.runtime), folder / "reference.onnx", SEED)
        lab = cls(strategy, read.context, read.splits["val"], _runtime(profile.runtime), folder)
        inputs = next(profile_inputs(lab.val, profile, read.context.layout, 1))
        export(lab.context.model, read.context.layout, inputs, lab.context.reference, EXPORTER)
        return lab

    def of(self, strategy: Strategy) -> "Lab":
        """The same task for another strategy, with a reference model of its own."""
        return replace(self, strategy=strategy, context=replace(self.context, model=self.context.task.copy_of_model()))

    @cached_property
    def parameters(self) -> Sequence[Parameter]:
        return self.strategy.parameters(self.context)

    @property
    def defaults(self) -> dict[str, Value]:
        return {parameter.name: parameter.default for parameter in self.parameters}

    def ends(self) -> list[dict[str, Value]]:
        """The defaults, and for each parameter the defaults with its first and with its last choice."""
        sets = [self.defaults]
        for parameter in self.parameters:
            sets += [{**self.defaults, parameter.name: parameter.choices[end]} for end in (0, -1)]
        return [one for at, one in enumerate(sets) if one not in sets[:at]]

    def planned(self, params: Params, luck: int = 0) -> dict[str, Any]:
        assert isinstance(self.strategy, StructureStrategy)
        with seeded(luck):
            return dict(self.strategy.plan(self.context.task.copy_of_model(), params, self.context))

    @cached_property
    def _plans(self) -> dict[str, dict[str, Any]]:
        return {}

    def plan_of(self, params: Params) -> dict[str, Any]:
        """The plan, made once: where it is not planning that is looked at."""
        key = json.dumps(params)
        if key not in self._plans:
            self._plans[key] = self.planned(params)
        return self._plans[key]

    def applied(self, plan: Mapping[str, Any], luck: int = 0) -> nn.Module:
        """The plan carried out on a fresh copy of the model, as it is stored and without data."""
        assert isinstance(self.strategy, StructureStrategy)
        stored = json.loads(json.dumps(plan))
        with seeded(luck):
            model = self.strategy.apply(self.context.task.copy_of_model(), stored, self._without_data)
        assert isinstance(model, nn.Module), f"apply must return the module, it returned {type(model).__name__}"
        return evaluating(model)

    def built(self, params: Params) -> nn.Module:
        """The structure a training starts from; the reference when the strategy leaves the structure alone."""
        if isinstance(self.strategy, StructureStrategy):
            return self.applied(self.plan_of(params))
        return self.context.task.copy_of_model()

    def trained(
        self,
        model: nn.Module,
        hooks: Mapping[str, TrainHook],
        *,
        examples: int = LAB_EXAMPLES,
        luck: int = 0,
    ) -> Trained:
        """A few steps of the real training loop."""
        context, plain = self.context, Arithmetic()
        stream = TrainStream(
            context.task, context.train, Teacher(context.task.copy_of_model(), plain, context.layout), SEED
        )
        schedule = Schedule(LEARNING_RATE, LAB_BATCH, 0, examples)
        try:
            with seeded(luck):
                return train(model, list(hooks.items()), context.task.loss_fn, stream, schedule, plain)
        except CandidateFailed as error:
            raise error.__cause__ or error from None  # what the hook raised, not what a search reports of it

    def hook(self, params: Params) -> TrainHook:
        assert isinstance(self.strategy, TrainingStrategy)
        return self.strategy.hook(params, self.context)

    @cached_property
    def untrained_source(self) -> tuple[Path, Context]:
        """What the graph part reads, with its context, as the gate has it: the exported file of the strategy's
        structure, nothing learned.
        """
        return self.exported(self.built(self.defaults), "before the graph part"), self.context

    @cached_property
    def trained_source(self) -> tuple[Path, Context]:
        """The same after a training; of a strategy that does not train, the untrained one."""
        if not isinstance(self.strategy, TrainingStrategy):
            return self.untrained_source
        done = self.trained(self.built(self.defaults), {self.strategy.name: self.hook(self.defaults)})
        return self.exported(done.model, "before the graph part"), replace(self.context, learned=done.learned)

    def rewritten(self, source: Path, params: Params, context: Context) -> Path:
        """One graph variant of ``source``, in a folder of its own."""
        assert isinstance(self.strategy, GraphStrategy)
        target, before = self._folder() / "variant.onnx", source.read_bytes()
        self.strategy.apply(source, target, params, context)
        assert target.exists(), f"variant {params}: apply must write the file `target`, and nothing is there"
        assert source.read_bytes() == before, f"variant {params}: apply changed its source; it may only read it"
        beside = [path.name for path in (*target.parent.iterdir(), *source.parent.iterdir())]
        left = set(beside) - {source.name, target.name}
        assert not left, f"variant {params}: apply left {sorted(left)} beside its files; the model must be one file"
        return target

    def outputs(self, path: Path) -> Tensor:
        """The scored output of a file on the validation split, (N, ...)."""
        try:
            profile, layout = self.context.profile, self.context.layout
            found = outputs_of(lambda: self.runtime.open(path, profile), self.val, profile.batch, layout)
            return torch.cat([rows[layout.scored] for _, rows in found])
        except CandidateFailed as error:
            fail(f"the written file does not run in {self.runtime.name}: {error.reason}")

    def exported(self, model: nn.Module, when: str) -> Path:
        """The model as a file that agrees with it."""
        inputs = list(profile_inputs(self.val, self.context.profile, self.context.layout, CHECKED_BATCHES))
        path = self._folder() / "model.onnx"
        try:
            export(model, self.context.layout, inputs[0], path, EXPORTER)
            session = self.runtime.open(path, self.context.profile)
            check(session, [feed_of(i, session.input_names) for i in inputs], model, self.context.layout, inputs)
        except CandidateFailed as error:
            fail(f"the model {when} must export to ONNX and the file agree with it: {error.reason}")
        return path

    def size(self, model: nn.Module) -> tuple[int, int]:
        """(parameters, multiply-accumulates)."""
        return count(self.exported(model, "after apply"))

    @property
    def _without_data(self) -> Context:
        """For ``apply``: a plan is replayed where the data is not."""

        def refuse(*_: object) -> NoReturn:
            fail("apply read the training data; a plan must hold all that was decided, so that it replays without data")

        nothing = Split("train", len(self.context.train), refuse)
        return replace(self.context, train=nothing, feeds=refuse, memory={})

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


@cache
def _runtime(name: str) -> Runtime:
    return load_plugins().runtime(name)


def fail(reason: str) -> NoReturn:
    pytest.fail(reason, pytrace=False)


@dataclass(frozen=True)
class Form:
    """What a model is made of, the values left out. Modules: name, class, in training, how much is hung onto it."""

    modules: tuple[tuple[str, type, bool, int], ...]
    tensors: tuple[tuple[str, torch.Size, torch.dtype], ...]

    @classmethod
    def of(cls, model: nn.Module) -> "Form":
        modules = tuple((name, type(m), m.training, _hung_on(m)) for name, m in model.named_modules())
        return cls(modules, tuple((name, t.shape, t.dtype) for name, t in model.state_dict().items()))

    def difference(self, other: "Form") -> str:
        """The first thing that differs, in words."""
        for one, two in ((self.tensors, other.tensors), (self.modules, other.modules)):
            for entry in (*two, *one):
                if (entry in one) != (entry in two):
                    return f"{'new' if entry in two else 'missing'}: {' '.join(map(str, entry))}"
        return "the order of its modules or tensors"


def _hung_on(module: nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks) + ("forward" in vars(module))


def same_values(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are the same bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@contextmanager
def untouched(model: nn.Module, by: str) -> Iterator[None]:
    """Fails when ``model`` is not what it was, ``by`` being to blame."""
    form, values = Form.of(model), copy.deepcopy(model.state_dict())
    yield
    now = Form.of(model)
    assert now == form, f"{by} changed the model it may only look at ({form.difference(now)}): work on a deepcopy"
    assert same_values(values, model.state_dict()), f"{by} changed values of the model it may only look at: copy it"

"""The checks that every strategy passes, whoever wrote it."""

import inspect
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from autocompress.candidate.count import count
from autocompress.candidate.weights import load_weights
from autocompress.data import call, primary, targets_of
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import (
    GraphStrategy,
    LossTerm,
    Params,
    Strategy,
    StructureStrategy,
    TrainHook,
    TrainingStrategy,
    TrainStep,
    stages_of,
)
from autocompress.storage.store import Store
from autocompress.task import Task, class_axis, class_count
from autocompress.testing import tasks
from autocompress.testing.lab import BATCH, EXAMPLES, Form, Lab, same_values, untouched

AGREEMENT = 0.8  # share of examples on which a graph variant keeps the class
RELATIVE_ERROR = 0.1  # where there are no classes
PARTS: dict[str, type] = {"structure": StructureStrategy, "training": TrainingStrategy, "graph": GraphStrategy}


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


class StrategyConformance:
    """Subclass it as ``TestMine`` and set ``strategy`` to an instance.

    task: makes the task to try it on; left out, the first of ``autocompress.testing.tasks`` that it does not refuse.
    A task of your own must train the same way twice: no dropout. refused_task: makes one that it has to refuse.
    tolerance: largest relative error of a graph variant's outputs (norm of the difference over norm of the outputs);
    left out, it keeps the class of 80 % of the examples, or without classes an error of 0.1.
    """

    strategy: ClassVar[Strategy]
    task: ClassVar[Callable[[], Task] | None] = None
    refused_task: ClassVar[Callable[[], Task] | None] = None
    tolerance: ClassVar[float | None] = None

    def __init_subclass__(cls) -> None:
        """A strategy has the tests of the parts that it has."""
        super().__init_subclass__()
        if not hasattr(cls, "strategy"):
            return
        for name in (name for name in vars(StrategyConformance) if name.startswith("test_")):
            asked = PARTS.keys() & inspect.signature(vars(StrategyConformance)[name]).parameters.keys()
            if not all(isinstance(cls.strategy, PARTS[part]) for part in asked):
                setattr(cls, name, None)

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
        assert reason is None or _is_sentence(reason), f"refuses must answer None or a reason in words, not {reason!r}"
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

    # -- what it says of itself ----------------------------------------------------------------------------------------

    def test_it_is_named_and_has_a_part(self) -> None:
        own = self.strategy
        assert isinstance(own, Strategy), f"`strategy` must be an instance, as in strategy = Mine(), not {own!r}"
        name = getattr(own, "name", None)
        assert isinstance(name, str) and name.isidentifier(), f"name must be an identifier, not {name!r}"  # noqa: PT018
        assert _is_sentence(own.summary), f"summary must be one line for a list, not {own.summary!r}"
        assert stages_of(own), "inherit from StructureStrategy, TrainingStrategy or GraphStrategy: it has no part"
        for tags in ("provides", "excludes"):
            value = getattr(own, tags)
            assert isinstance(value, frozenset), f'{tags} must be a frozenset of tags, as in frozenset({{"quantized"}})'

    def test_parameters_are_fixed_lists_of_plain_choices(self, lab: Lab) -> None:
        found = self.strategy.parameters(lab.context)
        again = self.strategy.parameters(lab.context)
        assert list(found) == list(again), "parameters must answer the same each time it is asked"
        names = [parameter.name for parameter in found]
        assert len(set(names)) == len(names), f"two parameters share a name: {names}"
        for parameter in found:
            assert parameter.name.isidentifier(), f"the parameter's name must be an identifier, not {parameter.name!r}"
            assert all(map(_is_value, parameter.choices)), (
                f"the choices of {parameter.name} must be numbers, words or true/false, not {parameter.choices!r}"
            )

    def test_refusing_has_a_reason(self, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
        assert self._refusal(lab) is None, "refuses must answer the same each time it is asked"
        make = type(self).refused_task
        if make is not None:
            refused = Lab.open(self.strategy, make(), tmp_path_factory.mktemp("lab"))
            assert self._refusal(refused) is not None, "`refused_task` makes a task that the strategy does not refuse"

    def test_size_only_has_a_reason(self, lab: Lab) -> None:
        reason = self.strategy.size_only(lab.context)
        assert reason is None or _is_sentence(reason), f"size_only must answer None or a reason, not {reason!r}"

    def test_both_ends_of_every_parameter_work(self, lab: Lab) -> None:
        for params in lab.ends():
            reason = self._failure(lab, params)
            assert reason != "", f"CandidateFailed needs a reason in words, with {params} it has none"
            assert reason is None or params != lab.defaults, f"the defaults must work where it applies: {reason}"

    def _failure(self, lab: Lab, params: Params) -> str | None:
        """The reason of the CandidateFailed that a parameter set raises; None when it works."""
        try:
            model = lab.built(params)
            if isinstance(self.strategy, TrainingStrategy):
                model = lab.trained(model, {self.strategy.name: lab.hook(params)}, examples=2 * BATCH).model
        except CandidateFailed as error:
            return error.reason
        self._runs(lab, model, f"with {params}")
        return None

    # -- structure -----------------------------------------------------------------------------------------------------

    def test_plan_is_json_and_changes_nothing(self, structure: StructureStrategy, lab: Lab) -> None:
        model = lab.context.task.copy_of_model()
        with untouched(model, "plan"), untouched(lab.context.model, "plan"):
            plan = structure.plan(model, lab.defaults, lab.context)
        assert _is_plain(dict(plan)), "the plan must be JSON: words, finite numbers, true/false, lists, dicts"

    def test_the_same_seed_plans_the_same(self, structure: StructureStrategy, lab: Lab) -> None:
        one, other = (json.dumps(lab.planned(lab.defaults, luck)) for luck in (1, 2))
        assert one == other, "plan gave another plan the second time: draw from a generator seeded by context.seed"

    def test_apply_changes_the_model_and_keeps_it_running(self, structure: StructureStrategy, lab: Lab) -> None:
        before = lab.context.task.copy_of_model()
        after = lab.built(lab.defaults)
        changed = Form.of(after) != Form.of(before) or not same_values(after.state_dict(), before.state_dict())
        assert changed, "apply with the default parameters changed nothing: neither modules, nor shapes, nor values"
        self._runs(lab, after, "after apply")

    def test_a_plan_replays_bit_for_bit(self, structure: StructureStrategy, lab: Lab) -> None:
        plan = lab.planned(lab.defaults)
        one, other = (lab.applied(plan, luck) for luck in (1, 2))
        assert same_values(one.state_dict(), other.state_dict()), (
            "apply of one plan gave other weights the second time: put what is drawn, or its seed, into the plan"
        )
        inputs = lab.context.example_inputs
        with torch.no_grad():
            results = [primary(call(model, inputs)) for model in (one, other)]
        assert torch.equal(*results), "apply of one plan gave a model with other outputs the second time"

    def test_a_stronger_choice_is_not_larger(self, structure: StructureStrategy, lab: Lab) -> None:
        strengths = [parameter for parameter in lab.parameters if parameter.by_strength]
        if not strengths:
            return  # what it does has no strength
        reference, smaller = count(lab.context.reference), []
        for parameter in strengths:
            mild, strong = (
                self._first_size(lab, [{**lab.defaults, parameter.name: c} for c in choices])
                for choices in (parameter.choices, parameter.choices[::-1])
            )
            assert strong[1] <= mild[1], (
                f"{parameter.name} is by_strength, but its last choice costs {strong[1]} multiply-accumulates and its "
                f"first {mild[1]}: list the choices from the mildest to the one that makes the fastest model"
            )
            smaller.append(strong[0] < reference[0] or strong[1] < reference[1])
        assert any(smaller), "the strongest choice leaves the model as large as it was, in parameters and in operations"

    def _first_size(self, lab: Lab, sets: list[Params]) -> tuple[int, int]:
        for params in sets:
            with suppress(CandidateFailed):
                return lab.size(lab.built(params))
        raise AssertionError("no choice of a parameter works with the others at their defaults")

    def test_the_structure_exports(self, structure: StructureStrategy, lab: Lab) -> None:
        lab.exported(lab.built(lab.defaults), "after apply")

    def test_the_structure_trains_and_its_weights_are_kept(self, structure: StructureStrategy, lab: Lab) -> None:
        plan = lab.planned(lab.defaults)
        trained = lab.trained(lab.applied(plan), {"neighbour": Neighbour()}).model
        store = Store(lab.folder)
        store.save("weights", trained.state_dict())
        again = lab.applied(plan)
        load_weights(store, again, "weights")
        inputs = lab.context.example_inputs
        with torch.no_grad():
            one, other = (primary(call(model, inputs)) for model in (trained, again))
        assert torch.equal(one, other), (
            "the replayed structure with the trained weights gives other outputs: keep all state in the state dict"
        )

    def test_sensitivity_is_ordered_and_changes_nothing(self, structure: StructureStrategy, lab: Lab) -> None:
        with untouched(lab.context.model, "sensitivity"):
            found = list(structure.sensitivity(lab.context))
        for part in found:
            sound = part.group and part.units > 0 and 0 < part.share <= 1 and math.isfinite(part.loss)
            assert sound, f"sensitivity needs a group, its units, a share in (0, 1] and a finite loss: {part}"
        losses = [part.loss for part in found]
        assert losses == sorted(losses, reverse=True), "sensitivity lists the most sensitive part first, by its loss"

    def test_what_it_leaves_alone_has_a_reason(self, structure: StructureStrategy, lab: Lab) -> None:
        with untouched(lab.context.model, "left_alone"):
            found = dict(structure.left_alone(lab.context))
        for part, reason in found.items():
            sound = _is_sentence(part) and _is_sentence(reason)
            assert sound, f"left_alone gives the name of a part and a reason in words, not {part!r}: {reason!r}"

    # -- training ------------------------------------------------------------------------------------------------------

    def test_the_hook_trains_and_leaves_nothing_behind(self, training: TrainingStrategy, lab: Lab) -> None:
        model = lab.built(lab.defaults)
        form = Form.of(model)
        with untouched(lab.context.model, "the hook"):
            trained = lab.trained(model, {training.name: lab.hook(lab.defaults)}).model
        left = Form.of(trained)
        assert left == form, f"unwrap must take off all that wrap put on ({form.difference(left)})"
        assert all(value.isfinite().all() for value in trained.state_dict().values()), "training left NaN in weights"
        self._runs(lab, trained, "after training")
        lab.exported(trained, "after training")

    def test_training_repeats_bit_for_bit(self, training: TrainingStrategy, lab: Lab) -> None:
        one, other = (
            lab.trained(lab.built(lab.defaults), {training.name: lab.hook(lab.defaults)}, luck=luck).model
            for luck in (1, 2)
        )
        assert same_values(one.state_dict(), other.state_dict()), (
            "two trainings gave other weights: let the hook draw from a generator seeded by context.seed"
        )

    def test_it_trains_beside_another_strategy(self, training: TrainingStrategy, lab: Lab) -> None:
        for first in (True, False):
            model, neighbour = lab.built(lab.defaults), Neighbour()
            form = Form.of(model)
            hooks = {training.name: lab.hook(lab.defaults), "neighbour": neighbour}
            done = lab.trained(model, hooks if first else dict(reversed(hooks.items())))
            assert neighbour.steps == EXAMPLES // BATCH, "beside it another strategy's hook misses steps"
            left = Form.of(done.model)
            assert left == form, f"beside another hook something is left behind ({form.difference(left)})"

    def test_what_was_learned_is_json_and_training_goes_on_from_it(self, training: TrainingStrategy, lab: Lab) -> None:
        hook = lab.hook(lab.defaults)
        done = lab.trained(lab.built(lab.defaults), {training.name: hook})
        assert _is_plain(dict(hook.learned())), "learned must be JSON: words, finite numbers, true/false, lists, dicts"
        form, later = Form.of(done.model), lab.hook(lab.defaults)
        later.resume(done.learned[training.name])
        left = Form.of(lab.trained(done.model, {training.name: later}).model)
        assert left == form, f"a training that goes on leaves something behind ({form.difference(left)})"

    # -- graph ---------------------------------------------------------------------------------------------------------

    def test_variants_are_plain_and_always_the_same(self, graph: GraphStrategy, lab: Lab) -> None:
        for context, when in ((lab.context, ""), (lab.context.for_timing(), " with context.scored false")):
            found = list(graph.variants(context))
            assert found, f"variants is empty{when}: where there is nothing to measure, refuses gives the reason"
            assert found == list(graph.variants(context)), "variants must answer the same each time it is asked"
            for params in found:
                plain = all(map(_is_value, params.values()))
                assert plain, f"a variant's values must be numbers, words or true/false, not {params!r}"

    def test_every_variant_is_a_file_that_agrees_with_its_source(self, graph: GraphStrategy, lab: Lab) -> None:
        source, context = lab.source(trained=True)
        expected = lab.outputs(source)
        for params in graph.variants(context):
            outputs = lab.outputs(lab.rewritten(source, params, context))
            self._finite(outputs, expected, f"variant {params}")
            self._agree(lab, outputs, expected, f"variant {params}")

    def test_every_variant_repeats(self, graph: GraphStrategy, lab: Lab) -> None:
        source, context = lab.source(trained=True)
        for params in graph.variants(context):
            one, other = (lab.rewritten(source, params, context) for _ in range(2))
            same = one.read_bytes() == other.read_bytes() or torch.equal(lab.outputs(one), lab.outputs(other))
            assert same, f"variant {params}: apply gave a file with other outputs the second time"

    def test_every_variant_works_before_any_training(self, graph: GraphStrategy, lab: Lab) -> None:
        source, context = lab.source(trained=False)
        expected, timed = lab.outputs(source), replace(context, learned={}).for_timing()
        offered = list(graph.variants(timed))
        for params in (*offered, *(other for other in graph.variants(context) if other not in offered)):
            outputs = lab.outputs(lab.rewritten(source, params, timed))
            self._finite(outputs, expected, f"variant {params} with nothing learned")

    # -- shared --------------------------------------------------------------------------------------------------------

    def _runs(self, lab: Lab, model: torch.nn.Module, when: str) -> None:
        inputs = lab.context.example_inputs
        with torch.no_grad():
            expected, got = (primary(call(m, inputs)) for m in (lab.context.model, model.eval()))
        self._finite(got, expected, f"the model {when}")

    def _finite(self, outputs: Tensor, expected: Tensor, whose: str) -> None:
        assert outputs.shape == expected.shape, (
            f"{whose} gives outputs of shape {tuple(outputs.shape)}, the model before it {tuple(expected.shape)}"
        )
        assert outputs.isfinite().all(), f"{whose} gives NaN or infinite outputs"

    def _agree(self, lab: Lab, outputs: Tensor, expected: Tensor, whose: str) -> None:
        targets = targets_of(lab.val)
        if self.tolerance is None and class_count(expected, targets):
            axis = class_axis(expected, targets)
            share = float((outputs.argmax(axis) == expected.argmax(axis)).float().mean())
            assert share >= AGREEMENT, f"{whose} keeps the class of {share:.0%} of the examples, not {AGREEMENT:.0%}"
            return
        limit = RELATIVE_ERROR if self.tolerance is None else self.tolerance
        error = float((outputs - expected).norm() / expected.norm())
        assert error <= limit, f"{whose} has a relative error of {error:.2g}, allowed {limit:g}: see `tolerance`"


def _is_sentence(text: object) -> bool:
    """One line of words."""
    return isinstance(text, str) and bool(text.strip()) and "\n" not in text


def _is_value(value: object) -> bool:
    """Whether it may be a parameter's: true/false, a finite number or a word."""
    return isinstance(value, (int, str)) or (isinstance(value, float) and math.isfinite(value))


def _is_plain(value: object) -> bool:
    """Whether a value comes back from JSON as it went in; a tuple may come back as a list."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or _is_value(value)

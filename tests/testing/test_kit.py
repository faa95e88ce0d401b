"""The kit for authors finds what is wrong: one broken strategy for each thing it checks, and it says what to fix.

Each ``Broken...`` class is the kit on a strategy that differs from a sound one by one mistake. Pytest itself runs
them, all in one session, as it does for an author.
"""

import copy
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from autocompress.classes import accuracy
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import (
    Counterpart,
    Counterparts,
    GraphStrategy,
    LossTerm,
    Parameter,
    ShrinkableGroup,
    Strategy,
    StructureStrategy,
    TrainHook,
    TrainingStrategy,
)
from autocompress.task import Task
from autocompress.testing import StrategyConformance, tasks
from autocompress.testing.lab import Lab

CASES = []


class OnCnn(StrategyConformance):
    """The kit on a task that is opened once for all of them: each has a model of its own."""

    opened: ClassVar[dict[str, Lab]] = {}

    @pytest.fixture
    def lab(self, tmp_path_factory: pytest.TempPathFactory) -> Lab:
        if "cnn" not in self.opened:
            self.opened["cnn"] = Lab.open(self.strategy, tasks.cnn(), tmp_path_factory.mktemp("lab"))
        return self.opened["cnn"].of(self.strategy)


def broken(
    check: str, says: str, kit: type[StrategyConformance] = OnCnn, **settings: object
) -> Callable[[type[Strategy]], type[Strategy]]:
    """The decorated strategy has to fail ``check`` of the kit with a message that holds ``says``."""

    def register(strategy: type[Strategy]) -> type[Strategy]:
        name = f"Broken{strategy.__name__}"
        globals()[name] = type(name, (kit,), {"strategy": strategy(), "__module__": __name__, **settings})
        CASES.append(pytest.param(f"{name}::{check}", says, id=strategy.__name__))
        return strategy

    return register


# -- structure ---------------------------------------------------------------------------------------------------------


class Cut(StructureStrategy):
    """A sound one: removes channels of the last convolution."""

    name = "cut"
    summary = "remove channels of the last convolution"
    removed = Parameter("removed", (8, 16, 24), 16, by_strength=True)

    def parameters(self, context):
        return [self.removed]

    def plan(self, model, params, context):
        norms = model.down.weight.detach().flatten(1).norm(dim=1)
        return {"kept": sorted(norms.topk(len(norms) - params["removed"]).indices.tolist())}

    def apply(self, model, plan, context):
        kept = plan["kept"]
        for layer in (model.down, model.head):
            layer.weight = nn.Parameter(layer.weight[kept] if layer is model.down else layer.weight[:, kept])
        model.down.bias = nn.Parameter(model.down.bias[kept])
        model.down.out_channels = model.head.in_features = len(kept)
        return model


PLAN = "test_plan_is_json_and_changes_nothing"


@broken(PLAN, "plan changed the model it may only look at")
class PlanCutsTheModel(Cut):
    def plan(self, model, params, context):
        plan = super().plan(model, params, context)
        self.apply(model, plan, context)
        return plan


@broken(PLAN, "plan changed values of the model")
class PlanRoundsTheWeights(Cut):
    def plan(self, model, params, context):
        model.down.weight.data.round_()
        return super().plan(model, params, context)


@broken(PLAN, "plan changed the model it may only look at")
class PlanLeavesAHookOnTheReference(Cut):
    def plan(self, model, params, context):
        context.model.down.register_forward_hook(lambda *_: None)
        return super().plan(model, params, context)


@broken(PLAN, "plan must be JSON")
class PlanIsByNumber(Cut):
    def plan(self, model, params, context):
        return {0: super().plan(model, params, context)["kept"]}


@broken("test_the_same_seed_plans_the_same", "seeded by context.seed")
class PlanDrawsLots(Cut):
    def plan(self, model, params, context):
        return {"kept": torch.randperm(32)[: 32 - params["removed"]].tolist()}


@broken("test_a_plan_replays_bit_for_bit", "put what is drawn, or its seed, into the plan")
class ApplyDrawsLots(Cut):
    def apply(self, model, plan, context):
        model = super().apply(model, plan, context)
        model.head.reset_parameters()
        return model


@broken("test_a_plan_replays_bit_for_bit", "other outputs the second time")
class ApplyHidesANumber(Cut):
    def apply(self, model, plan, context):
        model = super().apply(model, plan, context)
        model.head = Scaled(model.head, float(torch.rand(())))
        return model


class Scaled(nn.Module):
    def __init__(self, inner: nn.Module, by: float) -> None:
        super().__init__()
        self.inner, self.by = inner, by

    def forward(self, x):
        return self.by * self.inner(x)


@broken("test_a_plan_replays_bit_for_bit", "apply read the training data")
class ApplyReadsData(Cut):
    def apply(self, model, plan, context):
        next(context.train_batches(64))
        return super().apply(model, plan, context)


@broken("test_a_plan_replays_bit_for_bit", "apply read the training data")
class ApplyReadsDataThatThePlanKept(Cut):
    def plan(self, model, params, context):
        self._batch(context)
        return super().plan(model, params, context)

    def apply(self, model, plan, context):
        self._batch(context)
        return super().apply(model, plan, context)

    def _batch(self, context):
        return context.once("cut.batch", lambda: next(context.train_batches(64)))


CHANGES = "test_apply_changes_the_model_and_keeps_it_running"


@broken(CHANGES, "changed nothing")
class ApplyDoesNothing(Cut):
    def apply(self, model, plan, context):
        return model


@broken(CHANGES, "apply must return the module, it returned NoneType")
class ApplyReturnsNothing(Cut):
    def apply(self, model, plan, context):
        super().apply(model, plan, context)


@broken(CHANGES, "gives outputs of shape (2, 3), the model before it (2, 4)")
class ApplyLosesAClass(Cut):
    def apply(self, model, plan, context):
        model.head = nn.Linear(32, 3)
        return model


STRENGTH = "test_a_stronger_choice_is_not_larger"


@broken(STRENGTH, "list the choices from the mildest")
class StrengthRunsBackwards(Cut):
    removed = Parameter("removed", (24, 16, 8), 16, by_strength=True)


@broken(STRENGTH, "leaves the model as large as it was")
class StrengthRemovesNothing(Cut):
    def plan(self, model, params, context):
        return {"kept": list(range(32))}


ENDS = "test_both_ends_of_every_parameter_work"


@broken(ENDS, "selected index k out of range")
class RemovesMoreThanThereIs(Cut):
    removed = Parameter("removed", (16, 40), 16)


@broken(ENDS, "CandidateFailed needs a reason")
class FailsWithoutAReason(Cut):
    def plan(self, model, params, context):
        if params["removed"] == 24:
            raise CandidateFailed(" ")
        return super().plan(model, params, context)


@broken(ENDS, "the defaults must work where it applies: not today")
class FailsAtItsDefaults(Cut):
    def plan(self, model, params, context):
        raise CandidateFailed("not today")


@broken("test_the_structure_exports", "the model after apply must export to ONNX")
class CannotBeExported(Cut):
    def apply(self, model, plan, context):
        model = super().apply(model, plan, context)
        model.head = nn.Sequential(model.head, Untraceable())
        return model


class Untraceable(nn.Module):
    def forward(self, x):
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            raise NotImplementedError("only as it is")
        return x


@broken("test_the_structure_trains_and_its_weights_are_kept", "keep all state in the state dict")
class KeepsAStatisticForItself(Cut):
    def apply(self, model, plan, context):
        model = super().apply(model, plan, context)
        model.head = nn.Sequential(Centred(), model.head)
        return model


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.mean += 0.1 * (x.detach().mean() - self.mean)
        return x - self.mean


GROUPS = "test_its_groups_shrink_by_as_many_units_as_asked"


class CutByGroup(Cut):
    """A sound one that says how its group shrinks."""

    units, counts = 32, range(1, 32)

    def shrinkable_groups(self, context):
        return [ShrinkableGroup("down", self.units, self.counts, lambda count: self.plan_without(count, context))]

    def plan_without(self, count, context):
        return self.plan(context.model, {"removed": count}, context)


@broken(GROUPS, "no two shrinkable_groups have the same name")
class GroupsOfOneName(CutByGroup):
    def shrinkable_groups(self, context):
        return 2 * super().shrinkable_groups(context)


@broken(GROUPS, "counts of its 32 units that can go, ascending, from 1")
class AllFromNone(CutByGroup):
    counts = range(32)


@broken(GROUPS, "counts of its 16 units that can go, ascending, from 1")
class MoreThanThereAre(CutByGroup):
    units = 16


@broken(GROUPS, "takes out as many units as it is asked for")
class KeepsAsManyAsAreToGo(CutByGroup):
    def plan_without(self, count, context):
        return super().plan_without(32 - count, context)


@broken(GROUPS, "plan_without changed the model it may only look at")
class CutsWhilePlanningAGroup(CutByGroup):
    def plan_without(self, count, context):
        plan = super().plan_without(count, context)
        self.apply(context.model, plan, context)
        return plan


@broken(GROUPS, "a plan of plan_without must be JSON")
class PlansAGroupByNumber(CutByGroup):
    def plan_without(self, count, context):
        return {0: super().plan_without(count, context)["kept"]}


LEFT = "test_what_it_leaves_alone_has_a_reason"


@broken(LEFT, "a reason in words, not 'stem': ''")
class LeftWithoutAReason(Cut):
    def left_alone(self, context):
        return {"stem": ""}


@broken(LEFT, "left_alone changed values of the model")
class LookingRoundsTheWeights(Cut):
    def left_alone(self, context):
        context.model.down.weight.data.round_()
        return {}


class DeclaredCut(Cut):
    """A sound one that says what stands for what."""

    def counterparts(self, model, plan, context):
        down = Counterpart("down", "down", tuple(plan["kept"]), tuple(range(16)))
        head = Counterpart("head", "head", tuple(range(4)), tuple(plan["kept"]))
        return Counterparts(copy.deepcopy(model), (down, head))


COUNTERPARTS = "test_what_counterparts_declares_is_true"


@broken(COUNTERPARTS, "counterparts changed the model it may only look at")
class DeclaringCutsTheModel(DeclaredCut):
    def counterparts(self, model, plan, context):
        declared = super().counterparts(model, plan, context)
        self.apply(model, plan, context)
        return declared


@broken(COUNTERPARTS, "32 outputs are declared, and it has 16")
class DeclaresWhatWasRemovedToo(DeclaredCut):
    def counterparts(self, model, plan, context):
        return super().counterparts(model, {"kept": range(32)}, context)


@broken(COUNTERPARTS, "whose weights down.weight, down.bias, head.weight does not hold")
class DeclaresOtherChannels(DeclaredCut):
    def counterparts(self, model, plan, context):
        return super().counterparts(model, {"kept": sorted(set(range(32)) - set(plan["kept"]))}, context)


@broken(COUNTERPARTS, "give the indices that apply keeps, in its order")
class DeclaresChannelsInAnotherOrder(DeclaredCut):
    def counterparts(self, model, plan, context):
        return super().counterparts(model, {"kept": plan["kept"][::-1]}, context)


@broken(COUNTERPARTS, "whose weights blocks.0.bn1.running_var does not hold")
class DeclaresAnotherNorm(DeclaredCut):
    def counterparts(self, model, plan, context):
        declared = super().counterparts(model, plan, context)
        norm = Counterpart("blocks.0.bn1", "blocks.0.bn1", tuple(range(16)))
        return replace(declared, layers=(*declared.layers, norm))

    def apply(self, model, plan, context):
        model.blocks[0].bn1.running_var *= 2
        return super().apply(model, plan, context)


@broken(COUNTERPARTS, "the `whole` of counterparts gives other outputs")
class DeclaresAnotherModel(DeclaredCut):
    def counterparts(self, model, plan, context):
        declared = super().counterparts(model, plan, context)
        declared.whole.head.bias.data += 1
        return declared


# -- what a strategy says of itself ------------------------------------------------------------------------------------

NAMED, PARAMETERS, REFUSES = (
    "test_it_is_named_and_has_a_part",
    "test_parameters_are_fixed_lists_of_plain_choices",
    "test_refusing_has_a_reason",
)


@broken(NAMED, "name must be an identifier, not 'cut it'")
class TwoWords(Cut):
    name = "cut it"


@broken(NAMED, "summary must be one line for a list, not ''")
class NoSummary(Cut):
    summary = ""


@broken(NAMED, "it has no part")
class NoPart(Strategy):
    name = "nothing"
    summary = "does nothing"


@broken(NAMED, "provides must be a frozenset of tags")
class TagIsAWord(Cut):
    provides = "quantized"


@broken(PARAMETERS, "parameter removed: default 9 is not among (8, 16)")
class DefaultOutside(Cut):
    def parameters(self, context):
        return [Parameter("removed", (8, 16), 9)]


@broken(PARAMETERS, "must be numbers, words or true/false")
class ChoicesArePairs(Cut):
    def parameters(self, context):
        return [Parameter("kernel", ((1, 3), (3, 3)), (3, 3))]


@broken(PARAMETERS, "two parameters share a name")
class TwoOfOneName(Cut):
    def parameters(self, context):
        return [self.removed, self.removed]


@broken(PARAMETERS, "must answer the same each time")
class OtherChoicesEachTime(Cut):
    def parameters(self, context):
        self.asked = getattr(self, "asked", 8) + 1
        return [Parameter("removed", (8, self.asked), 8)]


@broken(REFUSES, "refuses must answer None or a reason in words, not False", StrategyConformance)
class RefusesWithoutWords(Cut):
    def refuses(self, context):
        return False


@broken(REFUSES, "refuses changed values of the model", StrategyConformance)
class RefusesAndWrites(Cut):
    def refuses(self, context):
        context.model.head.bias.data.zero_()


@broken(
    REFUSES,
    "the strategy refuses every task (cnn: it has no embedding): set `task` to one it applies to",
    StrategyConformance,
    task=tasks.cnn,
)
class RefusesEverything(Cut):
    def refuses(self, context):
        return "it has no embedding"


@broken(REFUSES, "a task that the strategy does not refuse", refused_task=tasks.lstm)
class TakesWhatItCannot(Cut):
    pass


@broken("test_size_only_has_a_reason", "size_only must answer None or a reason, not True")
class SizeOnlyWithoutWords(Cut):
    def size_only(self, context):
        return True


# -- training ----------------------------------------------------------------------------------------------------------


class Decay(TrainingStrategy):
    """A sound one: a penalty on the outputs."""

    name = "decay"
    summary = "penalize large outputs"
    Made: type[TrainHook]

    def parameters(self, context):
        return [Parameter("weight", (0.01, 0.1), 0.01)]

    def hook(self, params, context):
        return self.Made()


class Penalty(TrainHook):
    def loss(self, step):
        return LossTerm(step.outputs.square().mean(), 0.01)


LEAVES = "test_the_hook_trains_and_leaves_nothing_behind"


@broken(LEAVES, "unwrap must take off all that wrap put on (new: head.parametrizations")
class LeavesAParametrization(Decay):
    class Made(Penalty):
        def wrap(self, model):
            nn.utils.parametrizations.weight_norm(model.head)
            return model


@broken(LEAVES, "unwrap must take off all that wrap put on")
class LeavesAForwardHook(Decay):
    class Made(Penalty):
        def wrap(self, model):
            model.head.register_forward_hook(lambda *_: None)
            return model


@broken(LEAVES, "its loss is nan at 0% of the training")
class LossIsNotANumber(Decay):
    class Made(TrainHook):
        def loss(self, step):
            return LossTerm(step.outputs.sum() * float("nan"), 1.0)


@broken(LEAVES, "the hook changed values of the model")
class TrainsTheReference(Decay):
    def hook(self, params, context):
        context.model.head.bias.data.zero_()
        return Penalty()


@broken("test_training_repeats_bit_for_bit", "let the hook draw from a generator seeded by context.seed")
class AddsNoise(Decay):
    class Made(Penalty):
        def after_step(self, model, progress):
            model.head.bias.data += 0.01 * torch.randn_like(model.head.bias)


@broken("test_it_trains_beside_another_strategy", "no room for two")
class TrainsOnlyAlone(Decay):
    class Made(Penalty):
        def loss(self, step):
            assert step.teacher is None, "no room for two"


LEARNED = "test_what_was_learned_is_json_and_training_goes_on_from_it"


@broken(LEARNED, "Tensor is not JSON serializable")
class LearnsATensor(Decay):
    class Made(Penalty):
        def learned(self):
            return {"scale": torch.ones(())}


@broken(LEARNED, "learned must be JSON")
class LearnsByNumber(Decay):
    class Made(Penalty):
        def learned(self):
            return {0: 1.0}


@broken(LEARNED, "KeyError: 'scale'")
class CannotGoOn(Decay):
    class Made(Penalty):
        def resume(self, learned):
            learned["scale"]


# -- graph -------------------------------------------------------------------------------------------------------------


class Rewrite(GraphStrategy):
    """A sound one: ``change`` of every float weight, here none."""

    name = "rewrite"
    summary = "write the file anew"

    def variants(self, context):
        return [{"bits": 8}]

    def change(self, values):
        return values

    def apply(self, source, target, params, context):
        model = onnx.load(str(source))
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = self.change(onnx.numpy_helper.to_array(tensor))
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(model, str(target))


VARIANTS, FILES = (
    "test_variants_are_plain_and_always_the_same",
    "test_every_variant_is_a_file_that_agrees_with_its_source",
)


@broken(VARIANTS, "variants is empty")
class NoVariants(Rewrite):
    def variants(self, context):
        return []


@broken(VARIANTS, "a variant's values must be numbers, words or true/false, not")
class VariantHoldsAList(Rewrite):
    def variants(self, context):
        return [{"operators": ["Conv"]}]


@broken(FILES, "the written file does not run in onnxruntime")
class WritesGarbage(Rewrite):
    def apply(self, source, target, params, context):
        target.write_bytes(b"no model")


@broken(FILES, "apply must write the file `target`")
class WritesNothing(Rewrite):
    def apply(self, source, target, params, context):
        pass


@broken(FILES, "apply changed its source")
class WritesOverItsSource(Rewrite):
    def apply(self, source, target, params, context):
        super().apply(source, target, params, context)
        source.write_bytes(b"")


@broken(FILES, "apply left ['weights.bin'] beside its files")
class WritesTwoFiles(Rewrite):
    def apply(self, source, target, params, context):
        super().apply(source, target, params, context)
        target.with_name("weights.bin").touch()


@broken(FILES, "of the examples, not 80%")
class ForgetsTheWeights(Rewrite):
    def change(self, values):
        return np.zeros_like(values)


@broken(FILES, "has a relative error of", tolerance=1e-6)
class LessExactThanItSays(Rewrite):
    def change(self, values):
        return values.astype(np.float16).astype(np.float32)


@broken(FILES, "gives NaN or infinite outputs")
class AnswersNaN(Rewrite):
    def change(self, values):
        return np.full_like(values, np.nan)


@broken("test_every_variant_repeats", "a file with other outputs the second time")
class RoundsAtRandom(Rewrite):
    def change(self, values):
        return (values * (1 + 1e-3 * np.random.default_rng().random(values.shape))).astype(np.float32)


@broken("test_every_variant_works_before_any_training", "KeyError: 'scales'")
class NeedsWhatTrainingLearned(Decay, Rewrite):
    class Made(Penalty):
        def learned(self):
            return {"scales": 1.0}

    def apply(self, source, target, params, context):
        context.learned.get(self.name, {})["scales"]
        super().apply(source, target, params, context)


# -- what the kit says -------------------------------------------------------------------------------------------------


class SoundStructure(StrategyConformance):
    strategy = Cut()
    task = staticmethod(tasks.cnn)


class SoundDeclaration(OnCnn):
    strategy = DeclaredCut()


class SoundGroups(OnCnn):
    strategy = CutByGroup()


class SoundTraining(OnCnn):
    strategy = type("Sound", (Decay,), {"Made": Penalty})()


class SoundGraph(OnCnn):
    strategy = Rewrite()
    tolerance = 1e-6


class SoundOnTokens(StrategyConformance):
    strategy = type(
        "Tokens",
        (Rewrite,),
        {"refuses": lambda self, c: None if c.task.name == "transformer" else "it has no embedding"},
    )()
    refused_task = tasks.lstm


@broken(FILES, "of the examples, not 80%", StrategyConformance, task=lambda: with_its_own_loss())
class ForgetsTheWeightsOfAnyClassifier(ForgetsTheWeights):
    pass


def with_its_own_loss() -> Task:
    """A classification that does not say so by a name."""
    return replace(tasks.cnn(), loss=lambda o, t: nn.functional.cross_entropy(o, t), metric=lambda o, t: accuracy(o, t))


class DoubleTheOutputs(Rewrite):
    def change(self, values):
        return 2 * values if len(values) == tasks.CLASSES else values  # of the last layer


class SoundClassifier(StrategyConformance):
    strategy = DoubleTheOutputs()
    task = with_its_own_loss


class Reports:
    """Collects how each test ended: "passed", or the text of its failure."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("::")[2]
        if report.failed or report.when == "call":
            self.ended[name] = report.longreprtext if report.failed else report.outcome


SOUND = ["SoundStructure", "SoundDeclaration", "SoundTraining", "SoundGraph", "SoundOnTokens", "SoundClassifier"]


@pytest.fixture(scope="module")
def ended() -> dict[str, str]:
    """How each case, and each test of a sound strategy, ended."""
    reports = Reports()
    alone = ["-c", os.devnull, "--noconftest", "--import-mode=importlib", "--capture=no", "-q"]
    inside = ["-opython_classes=Broken* Sound*", "-pno:cacheprovider", "-pno:faulthandler"]
    names = [*(case.values[0] for case in CASES), *SOUND]
    pytest.main([*alone, *inside, *(f"{__file__}::{name}" for name in names)], plugins=[reports])
    return reports.ended


@pytest.mark.parametrize(("check", "says"), CASES)
def test_the_kit_finds_the_mistake_and_says_it(check: str, says: str, ended: dict[str, str]) -> None:
    assert says in ended[check]


@pytest.mark.parametrize("kit", SOUND)
def test_a_sound_strategy_passes(kit: str, ended: dict[str, str]) -> None:
    own = {name: how for name, how in ended.items() if name.partition("::")[0] == kit}
    assert set(own.values()) == {"passed"}, json.dumps(own, indent=1)
    assert len(own) >= 7


def test_every_check_has_a_strategy_that_fails_it() -> None:
    checks = {name for name in dir(StrategyConformance) if name.startswith("test_")}
    assert checks == {case.values[0].partition("::")[2] for case in CASES}


def test_without_pytest_the_kit_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("autocompress.testing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(ModuleNotFoundError, match=r"^autocompress\.testing needs pytest: pip install pytest$") as error:
        importlib.import_module("autocompress.testing")
    assert error.value.__suppress_context__, "one cause is told, not two"

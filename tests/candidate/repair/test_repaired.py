"""A recipe's structure is repaired once, the same way each time, and what is wrong with it is told of its strategy."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.reading import read_task
from autocompress.candidate.repair import repaired as under_test
from autocompress.candidate.repair.calibration import FEWEST, calibration_sample
from autocompress.candidate.repair.repaired import repaired
from autocompress.candidate.structure import build
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Counterpart, Counterparts, Params, StructureStrategy
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Plan, Recipe, Step
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor
from autocompress.task import Task

CUT = Recipe((Step.of("cut", count=8),))
TWICE = Recipe((Step.of("cut", count=6), Step.of("train", lr=0.1), Step.of("cut", count=4)))


class Cut(StructureStrategy):
    """Removes the last channels of the second convolution."""

    name = "cut"

    def __init__(self, *, declares: bool = True) -> None:
        self.declares = declares

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        return {"kept": list(range(model.conv2.out_channels - params["count"]))}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        kept, old, head = plan["kept"], model.conv2, model.head
        model.conv2 = nn.Conv2d(old.in_channels, len(kept), 3, stride=2, padding=1)
        model.head = nn.Linear(len(kept), head.out_features)
        with torch.no_grad():
            model.conv2.weight.copy_(old.weight[kept])
            model.conv2.bias.copy_(old.bias[kept])
            model.head.weight.copy_(head.weight[:, kept])
            model.head.bias.copy_(head.bias)
        return model

    def counterparts(self, model: nn.Module, plan: Plan, context: Context) -> Counterparts | None:
        kept = tuple(plan["kept"])
        layers = (Counterpart("conv2", "conv2", kept), Counterpart("head", "head", tuple(range(4)), kept))
        return Counterparts(copy.deepcopy(model), layers) if self.declares else None


@pytest.fixture
def opened(tiny_task: Task, plugins: PluginSet, fake_runtime: Any, tmp_path: Path) -> Any:
    """As much of an opened task as it takes."""
    plugins.strategies["cut"] = Cut()
    plugins.origin["strategies:cut"] = "tests"
    profile = HardwareProfile(name="fake", runtime="fake")
    context = read_task(tiny_task, profile, fake_runtime, tmp_path / "reference.onnx", 0).context
    return SimpleNamespace(
        context=context,
        plugins=plugins,
        plans=None,
        store=Store(tmp_path / "store"),
        fingerprint="tiny",
        policy=TrainingPolicy(),
        supervisor=Supervisor(),
        lock=SimpleNamespace(give_way=lambda: None),
    )


@pytest.fixture
def repairs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was repaired."""
    done: list[Any] = []
    real = under_test.repair

    def counted(*args: Any) -> Any:
        done.append(real(*args))
        return done[-1]

    monkeypatch.setattr(under_test, "repair", counted)
    return done


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def unrepaired(opened: Any, recipe: Recipe) -> nn.Module:
    return build(recipe, opened.context, opened.plugins)[0]


def elsewhere(opened: Any, folder: Path) -> Any:
    """The same task, opened by another process: with a store of its own."""
    own = {**vars(opened), "store": Store(folder), "context": replace(opened.context, memory={})}
    return SimpleNamespace(**own)


@pytest.mark.parametrize("recipe", [CUT, TWICE], ids=["one step", "two steps"])
def test_the_same_recipe_gives_the_same_weights_bit_for_bit(
    recipe: Recipe, opened: Any, tmp_path: Path, repairs: list[Any]
) -> None:
    one, plans, key = repaired(opened, recipe, None)
    other, again, same_key = repaired(elsewhere(opened, tmp_path / "other"), recipe, None)
    assert key is not None
    assert (plans, key) == (again, same_key)
    assert same(one, other)
    assert not same(one, unrepaired(opened, recipe))
    steps = 1 if recipe is CUT else 2
    assert len(repairs) == 2 * steps
    assert all(found.error < found.before for found in repairs)


def test_the_second_time_the_stored_weights_are_used(opened: Any, repairs: list[Any]) -> None:
    one, plans, key = repaired(opened, CUT, None)
    for known in (None, plans):
        other, again, same_key = repaired(opened, CUT, known)
        assert (again, same_key) == (plans, key)
        assert same(one, other)
    with_training = Recipe((*CUT.steps, Step.of("train", lr=0.1)))
    assert repaired(opened, with_training, plans)[2] == key, "what does not change the structure changes no key"
    assert len(repairs) == 1
    assert repaired(opened, Recipe((Step.of("cut", count=4),)), None)[2] != key
    assert len(repairs) == 2


def test_an_entry_that_is_damaged_is_made_again(opened: Any, repairs: list[Any]) -> None:
    one, _, key = repaired(opened, CUT, None)
    assert key is not None
    opened.store.path(key).write_bytes(b"cut short")
    other, _, same_key = repaired(opened, CUT, None)
    assert same_key == key
    assert same(one, other)
    assert len(repairs) == 2
    assert opened.store.load(key) is not None


def test_the_plans_that_were_recorded_are_carried_out(opened: Any) -> None:
    model, plans, key = repaired(opened, CUT, [{"kept": [0, 1, 2]}])
    assert (model.conv2.out_channels, plans) == (3, ({"kept": [0, 1, 2]},))
    assert key != repaired(opened, CUT, None)[2]


def test_without_counterparts_nothing_is_repaired(opened: Any, repairs: list[Any]) -> None:
    opened.plugins.strategies["cut"] = Cut(declares=False)
    model, plans, key = repaired(opened, CUT, None)
    assert key is None
    assert len(plans) == 1
    assert same(model, unrepaired(opened, CUT))
    assert repairs == []


def test_without_a_structural_step_nothing_is_repaired(opened: Any) -> None:
    model, plans, key = repaired(opened, Recipe((Step.of("train", lr=0.1),)), None)
    assert (plans, key) == ((), None)
    assert same(model, opened.context.model)


def test_where_the_policy_says_so_nothing_is_repaired(opened: Any, repairs: list[Any]) -> None:
    opened.policy = TrainingPolicy(repair=False)
    model, _, key = repaired(opened, CUT, None)
    assert key is None
    assert repairs == []
    assert same(model, unrepaired(opened, CUT))


@pytest.mark.parametrize("examples", [1, FEWEST - 1])
def test_with_too_few_examples_nothing_is_repaired(examples: int, opened: Any) -> None:
    opened.context = replace(opened.context, train=opened.context.train.sampled(examples))
    assert calibration_sample(opened.context) is None
    model, _, key = repaired(opened, CUT, None)
    assert key is None
    assert same(model, unrepaired(opened, CUT))


def test_the_sample_is_a_prime_number_of_examples_the_same_each_time(opened: Any) -> None:
    sample = calibration_sample(opened.context)
    again = calibration_sample(replace(opened.context, memory={}))
    assert sample is not None
    assert again is not None
    assert sample.facts() == again.facts() == {"examples": 251, "digest": sample.digest, "whole_split": False}
    assert isinstance(sample.inputs, torch.Tensor)
    assert len(sample.inputs) == 251


@pytest.mark.parametrize(("examples", "whole"), [(250, True), (251, False), (255, False)])
def test_more_examples_are_said_to_help_only_where_more_would_be_read(examples: int, whole: bool, opened: Any) -> None:
    context = replace(opened.context, memory={}, train=opened.context.train.sampled(examples))
    sample = calibration_sample(context)
    assert sample is not None
    assert sample.whole_split == whole


@pytest.mark.parametrize("cut_first", [CUT, TWICE], ids=["one step", "two steps"])
def test_layers_with_few_rows_are_told_also_of_weights_that_are_in_the_store(cut_first: Recipe, opened: Any) -> None:
    """Of 37 examples nine are held out: 28 rows are few for a head of eight inputs or ten."""
    opened.context = replace(opened.context, train=opened.context.train.sampled(39))
    for _ in range(2):
        *_, key = repaired(opened, cut_first, None)
        told = opened.store.load_json(key)
        assert (told["examples"], told["whole_split"]) == (37, True)
        (head,) = (row for row in told["few_rows"] if row["layer"] == "head")
        assert head == {"layer": "head", "rows": 28, "regressors": 8 if cut_first is CUT else 10}
    (opened.store.root / f"{key}.json").unlink()
    assert repaired(opened, cut_first, None)[2] == key
    assert opened.store.load_json(key) == told


def test_nothing_is_told_of_rows_where_there_are_enough(opened: Any) -> None:
    *_, key = repaired(opened, CUT, None)
    assert "few_rows" not in opened.store.load_json(key)


class FalseCut(Cut):
    def __init__(self, wrong: Callable[[Counterparts], Counterparts]) -> None:
        super().__init__()
        self.wrong = wrong

    def counterparts(self, model: nn.Module, plan: Plan, context: Context) -> Counterparts | None:
        found = super().counterparts(model, plan, context)
        assert found is not None
        return self.wrong(found)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda found: replace(found, layers=found.layers * 2), "the layer conv2: it is named twice"),
        (
            lambda found: replace(found, layers=(Counterpart("tail", "head", (0,)),)),
            "the layer tail: the changed model",
        ),
        (lambda found: found.nothing, "AttributeError"),
    ],
    ids=["misfit", "no layer", "raises"],
)
def test_a_false_declaration_fails_with_the_strategys_name(
    wrong: Callable[[Counterparts], Counterparts], says: str, opened: Any, repairs: list[Any]
) -> None:
    opened.plugins.strategies["cut"] = FalseCut(wrong)
    with pytest.raises(CandidateFailed, match=says) as error:
        repaired(opened, CUT, None)
    assert error.value.strategy == "cut"
    assert repairs == []


def test_the_work_can_be_ended_between_two_layers(opened: Any) -> None:
    asked = []
    opened.supervisor = replace(opened.supervisor, stop=lambda: asked.append(1) or False)
    opened.lock = SimpleNamespace(give_way=lambda: asked.append(2))
    repaired(opened, CUT, None)
    assert asked.count(1) == asked.count(2) >= 2


def test_the_original_is_run_once_for_all_recipes(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    real = under_test.run_original
    monkeypatch.setattr(under_test, "run_original", lambda *args: runs.append(1) or real(*args))
    for count in (2, 4, 6):
        repaired(opened, Recipe((Step.of("cut", count=count),)), None)
    assert len(runs) == 1
    repaired(opened, TWICE, None)
    assert len(runs) == 2, "of what its first step left too"
    repaired(opened, Recipe((Step.of("cut", count=5),)), None)
    assert len(runs) == 2, "what the reference gave is kept"


def test_weights_that_do_not_fit_the_structure_are_made_again(opened: Any, repairs: list[Any]) -> None:
    """As where a strategy changed under development and its plans are the same."""
    one, _, key = repaired(opened, CUT, None)
    assert key is not None
    opened.store.save(key, {"other": torch.zeros(3)})
    other, _, same_key = repaired(opened, CUT, None)
    assert same_key == key
    assert same(one, other)
    assert len(repairs) == 2

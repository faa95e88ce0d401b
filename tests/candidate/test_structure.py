"""A structure is planned once: what was recorded is carried out as it is, and nothing is planned anew."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from autocompress.candidate.structure import blamed_on, build
from autocompress.errors import DataError
from autocompress.plugin.contract import Context, Params, StructureStrategy
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Plan, Recipe, Step
from autocompress.task import Task

TWICE = Recipe((Step.of("widen", by=1), Step.of("train", lr=0.1), Step.of("widen", by=2)))


class Widen(StructureStrategy):
    """Plans another head each time that it is asked."""

    name = "widen"

    def __init__(self) -> None:
        self.planned = 0

    def plan(self, model: nn.Module, params: Params, context: Context) -> Plan:
        self.planned += 1
        return {"width": 100 * self.planned}

    def apply(self, model: nn.Module, plan: Plan, context: Context) -> nn.Module:
        model.head = nn.Linear(model.head.in_features, plan["width"])
        return model


class Remembered:
    """Plans by the steps that they depend on."""

    def __init__(self) -> None:
        self.plans: dict[tuple[Step, ...], Plan] = {}

    def get(self, prefix: Sequence[Step]) -> Plan | None:
        return self.plans.get(tuple(prefix))

    def put(self, prefix: Sequence[Step], plan: Plan) -> None:
        self.plans[tuple(prefix)] = plan


@pytest.fixture
def widen(plugins: PluginSet) -> Widen:
    plugins.strategies["widen"] = strategy = Widen()
    return strategy


@pytest.fixture
def built(widen: Widen, plugins: PluginSet, tiny_task: Task) -> Any:
    """``built(recipe, plans)``: the width of the head that comes of it, and the plans."""
    context: Any = SimpleNamespace(task=tiny_task)

    def built(recipe: Recipe, *others: Any) -> tuple[int, tuple[Mapping[str, Any], ...]]:
        model, plans = build(recipe, context, plugins, *others)
        return model.head.out_features, plans  # type: ignore[union-attr, return-value]

    return built


def test_recorded_plans_are_carried_out_and_nothing_is_planned(built: Any, widen: Widen) -> None:
    recorded = ({"width": 7}, {"width": 5})
    assert built(TWICE, recorded) == (5, recorded)
    assert built(TWICE, recorded, Remembered()) == (5, recorded)
    assert widen.planned == 0


def test_what_recipes_begin_with_is_planned_once(built: Any, widen: Widen) -> None:
    known = Remembered()
    assert built(TWICE, None, known) == (200, ({"width": 100}, {"width": 200}))
    assert built(Recipe(TWICE.steps[:1]), None, known) == (100, ({"width": 100},))
    assert built(TWICE, None, known) == (200, ({"width": 100}, {"width": 200}))
    assert widen.planned == 2


def test_what_is_wrong_with_the_users_data_is_no_fault_of_a_strategy():
    with pytest.raises(DataError, match="the disk is gone"), blamed_on("carve"):
        raise DataError("the train split cannot be read at index 4: OSError: the disk is gone")

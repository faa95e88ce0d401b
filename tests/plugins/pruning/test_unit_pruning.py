"""What all strategies that prune units do: the least important go, the rest is the user's own, refusals name layers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.plugin.contract import Context
from autocompress.task import Task
from autocompress.testing import tasks
from autocompress_plugins.pruning.prune_attention import PruneAttention
from autocompress_plugins.pruning.prune_channels import PruneChannels
from autocompress_plugins.pruning.prune_recurrent import PruneRecurrent
from autocompress_plugins.pruning.unit_pruning import UnitPruning
from autocompress_plugins.shrinking.channel_graph import channel_graph
from autocompress_plugins.shrinking.removal import remove_units
from autocompress_plugins.shrinking.unit_measurements import importances, least_important

MakeContext = Callable[..., Context]
MILD = {  # a quarter of the units, with the task that has such units
    PruneChannels: (tasks.cnn, {"ratio": 0.25, "round_to": 1}),
    PruneAttention: (tasks.transformer, {"heads": 0.25, "mlp": 0.25}),
    PruneRecurrent: (tasks.lstm, {"ratio": 0.25, "round_to": 1}),
}
each_strategy = pytest.mark.parametrize("kind", MILD, ids=lambda kind: kind.name)


def loss(model: nn.Module, context: Context) -> float:
    (batch,) = context.train_batches(256, 256)
    with torch.no_grad():
        return float(context.task.loss_fn(model.eval()(batch.inputs), batch.targets))


def planned(strategy: UnitPruning, context: Context, **chosen: Any) -> dict[str, list[int]]:
    params = {p.name: p.default for p in strategy.parameters(context)} | chosen
    return strategy.plan(context.task.copy_of_model(), params, context)["remove"]


def sizes(plan: dict[str, list[int]]) -> dict[str, int]:
    """How many units each group loses."""
    return {root: len(units) for root, units in plan.items()}


@pytest.mark.parametrize(
    ("kind", "criterion"),
    [
        (PruneChannels, "l2"),
        (PruneChannels, "taylor"),
        (PruneAttention, "taylor"),
        (PruneRecurrent, "taylor"),
        (PruneChannels, "surgeon"),
        (PruneAttention, "surgeon"),
        (PruneRecurrent, "surgeon"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_least_important_units_do_least_harm(
    kind: type[UnitPruning], criterion: str, decayed: Callable[[Callable[[], Task]], Context]
):
    """Against the most important ones by the same criterion, and as many."""
    make, mild = MILD[kind]
    context = decayed(make)
    gone = planned(kind(), context, importance=criterion, **mild)
    model, found = channel_graph(context).find_groups(context.model, context.example_inputs, kind.kinds)
    values = importances(model, found.groups, criterion, context)
    assert found.groups
    worst = {g.root: least_important(-values[g.root], g, g.size - len(gone[g.root])) for g in found.groups}
    assert all(len(units) >= group.size // 4 for units, group in zip(worst.values(), found.groups, strict=True))
    harmless = kind().apply(context.task.copy_of_model(), {"remove": gone}, context)
    harmful = remove_units(model, context.example_inputs, worst)
    assert loss(harmless, context) < 0.7 * loss(harmful, context)


@each_strategy
def test_each_group_shrinks_alone_those_with_most_compute_first(
    kind: type[UnitPruning], request: pytest.FixtureRequest
):
    context = request.getfixturevalue(MILD[kind][0].__name__)
    groups = kind().shrinkable_groups(context)
    found = channel_graph(context).find_groups(context.model, context.example_inputs, kind.kinds)[1]
    own = {group.root: group for group in found.groups}
    assert {group.name: group.units for group in groups} == {name: group.size for name, group in own.items()}
    macs = [own[group.name].macs for group in groups]
    assert macs == sorted(macs, reverse=True)
    for group in groups:
        assert list(group.counts) == [n for n in range(1, group.units) if n % own[group.name].blocks == 0]
        few, many = (group.plan_without(count)["remove"] for count in (group.counts[0], group.counts[-1]))
        assert (sizes(few), sizes(many)) == ({group.name: group.counts[0]}, {group.name: group.counts[-1]})
        assert set(few[group.name]) <= set(many[group.name])


def test_criteria_choose_other_units_and_as_many(cnn: Context):
    strategy, mild = PruneChannels(), MILD[PruneChannels][1]
    criteria = next(p.choices for p in strategy.parameters(cnn) if p.name == "importance")
    plans = [planned(strategy, cnn, importance=criterion, **mild) for criterion in criteria]
    assert [sizes(plan) for plan in plans] == [sizes(plans[0])] * len(criteria), "shares are uniform"
    assert len({str(plan) for plan in plans}) > 2, "some may agree on these few units"
    assert all(parameter.grad is None for parameter in cnn.model.parameters())


def test_allocations_take_other_shares(cnn: Context):
    strategy, mild = PruneChannels(), MILD[PruneChannels][1]
    allocations = next(p.choices for p in strategy.parameters(cnn) if p.name == "allocation")
    plans = [planned(strategy, cnn, allocation=allocation, **mild) for allocation in allocations]
    assert len({str(sizes(plan)) for plan in plans}) == len(allocations)


@each_strategy
def test_how_much_alone_has_a_strength(kind: type[UnitPruning], request: pytest.FixtureRequest):
    """Odd widths are slower than the next larger even ones: to round less is not to be faster."""
    found = kind().parameters(request.getfixturevalue(MILD[kind][0].__name__))
    assert {p.name for p in found if p.by_strength} == MILD[kind][1].keys() - {"round_to"}
    assert {p.name for p in found if not p.ordered} <= {"importance", "allocation", "schedule"}


@pytest.mark.parametrize(
    ("kind", "make", "reason"),
    [
        (
            PruneChannels,
            tasks.lstm,
            "no layer has channels that can be removed (head: its units are the model's output)",
        ),
        (PruneAttention, tasks.cnn, "no attention was found whose heads can be removed"),
        (PruneRecurrent, tasks.cnn, "no recurrent layer has units that can be removed"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_network_without_such_units_is_refused(
    kind: type[UnitPruning], make: Callable[[], Task], reason: str, request: pytest.FixtureRequest
):
    assert kind().refuses(request.getfixturevalue(make.__name__)) == reason

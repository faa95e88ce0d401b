"""Removing channels: widths as asked, the least important ones, the same file each time."""

import copy
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress.task import Inputs, Task
from autocompress.testing import tasks
from autocompress_plugins.pruning.channel_graph import ChannelGraph
from autocompress_plugins.pruning.importance import importance
from autocompress_plugins.pruning.prune_channels import PruneChannels
from autocompress_plugins.pruning.removal import remove
from autocompress_plugins.pruning.unit_measurements import importances

GROUPS = {"stem.0": 16, "blocks.0.conv1": 16, "blocks.1.conv1": 16, "down": 32}
MakeContext = Callable[..., Context]


def params(context: Context, **chosen: Any) -> dict[str, Any]:
    return {p.name: p.default for p in PruneChannels().parameters(context)} | chosen


def pruned(context: Context, **chosen: Any) -> nn.Module:
    strategy, model = PruneChannels(), context.task.copy_of_model()
    plan = json.loads(json.dumps(strategy.plan(model, params(context, **chosen), context)))
    return strategy.apply(model, plan, context).eval()


def widths(model: nn.Module) -> list[int]:
    return [len(model.get_parameter(f"{root}.weight")) for root in GROUPS]


def loss(model: nn.Module, context: Context) -> float:
    (batch,) = context.train_batches(256, 256)
    with torch.no_grad():
        return float(context.task.loss_fn(model.eval()(batch.inputs), batch.targets))


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_the_widths_are_as_asked(ratio: float, cnn: Context):
    assert widths(pruned(cnn, ratio=ratio, round_to=1)) == [size * (1 - ratio) for size in GROUPS.values()]


@pytest.mark.parametrize("round_to", [8, 4])
@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity"])
def test_widths_are_multiples_of_round_to(round_to: int, allocation: str, cnn: Context):
    found = widths(pruned(cnn, ratio=0.6, round_to=round_to, allocation=allocation))
    assert all(width % min(round_to, size // 4) == 0 for width, size in zip(found, GROUPS.values(), strict=True))
    assert found != list(GROUPS.values())


@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor", "lamp", "bn_scale"])
@pytest.mark.parametrize("schedule", ["at_once", "bottom_up"])
def test_every_criterion_and_schedule(criterion: str, schedule: str, cnn: Context):
    model = pruned(cnn, importance=criterion, schedule=schedule)
    assert widths(model) == [8, 8, 8, 16]
    batch_norm = model.get_submodule("blocks.0.bn2")
    assert len(batch_norm.running_mean) == batch_norm.num_features == 8


def test_a_plan_leaves_the_model_and_replays_bit_for_bit(cnn: Context):
    strategy, model = PruneChannels(), cnn.task.copy_of_model()
    before = copy.deepcopy(model.state_dict())
    plan = strategy.plan(model, params(cnn, importance="taylor", allocation="sensitivity"), cnn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in (*model.parameters(), *cnn.model.parameters()))
    stored = json.loads(json.dumps(plan))
    assert stored == plan
    assert len(json.dumps(plan)) < 1000
    one, other = (make.apply(cnn.task.copy_of_model(), stored, cnn) for make in (strategy, PruneChannels()))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_the_kept_weights_are_the_models_own(cnn: Context):
    strategy, model = PruneChannels(), cnn.task.copy_of_model()
    plan = strategy.plan(model, params(cnn), cnn)
    kept = [unit for unit in range(16) if unit not in plan["remove"]["stem.0"]]
    smaller = strategy.apply(copy.deepcopy(model), plan, cnn)
    assert torch.equal(smaller.stem[0].weight, model.stem[0].weight[kept])
    assert torch.equal(smaller.blocks[1].bn2.running_var, model.blocks[1].bn2.running_var[kept])


def test_the_file_agrees_with_the_module(cnn: Context, from_file: Callable[[nn.Module, Inputs], Tensor]):
    model = pruned(cnn)
    with torch.no_grad():
        expected = model(cnn.example_inputs)
    torch.testing.assert_close(from_file(model, cnn.example_inputs), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("criterion", ["l2", "taylor"])
def test_the_least_important_channels_do_least_harm(
    criterion: str, decayed: Callable[[Task], Task], open_task: Callable[[Task], Context]
):
    """Against the most important ones by the same criterion, and as many."""
    context = open_task(decayed(tasks.cnn()))
    model, survey = ChannelGraph().find_groups(context.task.copy_of_model(), context.example_inputs)
    values = importances(model, survey.groups, criterion, context)
    worst = {}
    for group in survey.groups:
        order = values[group.root].argsort(descending=True)
        worst[group.root] = order[: group.size // 4].tolist()
    harmful = remove(model, context.example_inputs, worst)
    harmless = pruned(context, ratio=0.25, importance=criterion, round_to=1)
    assert widths(harmless) == widths(harmful)
    assert loss(harmless, context) < 0.7 * loss(harmful, context)


def test_sensitivity_is_sorted_and_says_what_removing_half_costs(cnn: Context):
    found = PruneChannels().sensitivity(cnn)
    assert {s.group: s.units for s in found} == GROUPS
    assert all(one.loss >= other.loss for one, other in pairwise(found))
    model, survey = ChannelGraph().find_groups(cnn.model, cnn.example_inputs)
    first = next(group for group in survey.groups if group.root == found[0].group)
    units = importance(model, first, "l2").argsort()[: round(first.size * found[0].share)].tolist()
    rise = loss(remove(model, cnn.example_inputs, {first.root: units}), cnn) - loss(cnn.model, cnn)
    assert found[0].loss == pytest.approx(rise, rel=0.5)  # it looks at fewer examples


def test_bn_scale_is_offered_with_a_batch_norm_only(cnn: Context, transformer: Context):
    offered = [
        next(p for p in PruneChannels().parameters(context) if p.name == "importance").choices
        for context in (cnn, transformer)
    ]
    assert ["bn_scale" in choices for choices in offered] == [True, False]


def test_the_width_between_the_blocks_of_a_transformer(transformer: Context):
    model = pruned(transformer, ratio=0.5)
    assert model.embedding.weight.shape == (16, 16)
    assert model.position.shape == (1, 12, 16)
    assert model.blocks[0].attention.num_heads == 4
    assert model.blocks[1].mlp[0].weight.shape == (64, 16)


def test_a_mistaken_ratio_of_a_narrow_model_fails(make_context: MakeContext):
    context = make_context(nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1)), torch.randn(8, 4))
    assert PruneChannels().refuses(context) is None
    with pytest.raises(CandidateFailed, match="nothing would be removed"):
        pruned(context, ratio=0.1)


def test_refused_with_the_layer_and_the_reason(make_context: MakeContext):
    model = nn.Sequential(nn.Linear(4, 8), nn.Softmax(-1), nn.Linear(8, 2))
    before = copy.deepcopy(model.state_dict())
    reason = PruneChannels().refuses(make_context(model, torch.randn(8, 4)))
    assert reason == (
        "no layer has channels that can be removed (0: removing units gives another function than zeroing what reads "
        "them; 2: its units are the model's output)"
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_recurrent_network_without_other_layers_is_refused(lstm: Context):
    assert PruneChannels().refuses(lstm) is not None
    assert PruneChannels.kinds.isdisjoint({"recurrent units", "heads", "mlp"})


def test_the_ratio_alone_has_a_strength(cnn: Context):
    """Odd widths are slower than the next larger even ones: to round less is not to be faster."""
    assert [p.name for p in PruneChannels().parameters(cnn) if p.by_strength] == ["ratio"]
    assert next(p for p in PruneChannels().parameters(cnn) if p.name == "round_to").ordered

"""What is measured of units: on these weights and these data, finite or last, once for the reference."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autocompress.plugin.contract import Context
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.channel_graph import channel_graph
from autocompress_plugins.shrinking.groups import CHANNELS
from autocompress_plugins.shrinking.narrowing import Amount
from autocompress_plugins.shrinking.unit_measurements import half_width, losses_without_half

MakeContext = Callable[..., Context]
X = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
KINDS = frozenset({CHANNELS})


def losses(context: Context) -> dict[str, float]:
    """What is lost without half of each group, by its root."""
    model, found = channel_graph(context).find_groups(context.model, context.example_inputs, KINDS)
    without = losses_without_half(model, found.groups, context)
    return {group.root: float(loss) for group, loss in zip(found.groups, without, strict=True)}


def test_losses_are_of_these_weights_and_these_data(make_context: MakeContext):
    """What was measured of another opening of the task, or of another, is not taken for it."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 2))
    before = losses(make_context(model, X))["1"]
    other_data = losses(make_context(model, 3 * X))["1"]
    with torch.no_grad():
        model[3].weight *= 5
    other_weights = losses(make_context(model, X))["1"]
    assert len({before, other_data, other_weights}) == 3


def test_what_was_measured_is_not_measured_again(make_context: MakeContext):
    context = make_context(nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 2)), X)
    asked: list[int] = []

    def counted(outputs: Tensor, targets: Tensor) -> Tensor:
        asked.append(len(targets))
        return nn.functional.mse_loss(outputs, targets)

    context = replace(context, task=replace(context.task, loss=counted))
    first, measured = losses(context), len(asked)
    assert measured > 0
    assert losses(context) == first
    narrowing.plan(context.model, Amount({CHANNELS: 0.5}, allocation="sensitivity"), context)
    assert len(asked) == measured
    plans = [narrowing.plan(context.model, Amount({CHANNELS: ratio}, "taylor"), context) for ratio in (0.25, 0.5)]
    assert plans[0] != plans[1]
    gradients = len(asked) - measured
    narrowing.plan(context.model, Amount({CHANNELS: 0.75}, "taylor"), context)
    assert len(asked) - measured == gradients > 0


def test_of_an_odd_width_nearly_half_goes(make_context: MakeContext):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 2))
    context = make_context(model, X)
    (group,) = channel_graph(context).find_groups(context.model, context.example_inputs, KINDS)[1].groups
    gone = group.size - half_width(group)
    norms = (model[1].weight.square().sum(1) + model[3].weight.square().sum(0)).argsort()
    with torch.no_grad():
        whole = nn.functional.mse_loss(model(X), context.task.train[1])
        model[3].weight[:, norms[:gone]] = 0
        rise = float(nn.functional.mse_loss(model(X), context.task.train[1]) - whole)
    assert gone in (2, 3)
    assert losses(context)["1"] == pytest.approx(rise, rel=1e-4)


class Product(nn.Module):
    """Gives 2 for every input; 0 without the two least important units of ``a``, 1 without those of ``b``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.read_a, self.read_b = (nn.Linear(4, size) for size in (4, 4, 1, 1))
        with torch.no_grad():
            for layer in (self.a, self.b):
                layer.weight.zero_()
                layer.bias.fill_(1.0)
            for layer, weights in ((self.read_a, [5.0, -5.0, 1.0, 1.0]), (self.read_b, [0.25] * 4)):
                layer.weight.copy_(torch.tensor([weights]))
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.read_a(self.a(x)) * self.read_b(self.b(x))


def logarithmic(outputs: Tensor, targets: Tensor) -> Tensor:
    """Infinite where an output is 0."""
    return -(outputs / 2).log().mean()


@pytest.fixture
def product(make_context: MakeContext) -> Context:
    context = make_context(Product(), torch.randn(16, 4))
    return replace(context, task=replace(context.task, loss=logarithmic))


def test_a_group_without_which_the_loss_is_no_number_keeps_its_units(product: Context):
    found = losses(product)
    assert math.isinf(found["a"])
    assert found["b"] == pytest.approx(0.693, abs=1e-3)
    removed = narrowing.plan(product.model, Amount({CHANNELS: 0.25}, allocation="sensitivity"), product)["remove"]
    assert {root: len(units) for root, units in removed.items()} == {"b": 2}


def test_where_the_references_own_loss_is_no_number_all_groups_count_alike(product: Context):
    def narrow(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.where(((outputs - 1).abs() < 0.5).all(), outputs.mean(), torch.nan)

    context = replace(product, task=replace(product.task, loss=narrow))
    assert len(set(losses(context).values())) == 1
    removed = narrowing.plan(context.model, Amount({CHANNELS: 0.25}, allocation="sensitivity"), context)["remove"]
    assert {root: len(units) for root, units in removed.items()} == {"a": 1, "b": 1}


def test_shares_by_sensitivity_are_those_of_the_trained_reference(make_context: MakeContext):
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    model = nn.Sequential(*layers)
    model(X)
    with torch.no_grad():  # most of the first layer does nothing
        model[0].weight[4:] = model[0].bias[4:] = 0
        model[2].weight[:, 4:] = 0
    context = make_context(model, X)
    changed = context.task.copy_of_model()
    for layer in (0, 2, 5):
        changed[layer].reset_parameters()
    amount = Amount({CHANNELS: 0.5}, allocation="sensitivity")
    plans = [narrowing.plan(one, amount, context)["remove"] for one in (context.model, changed)]
    lost = [[len(plan.get(name, [])) for name in ("0", "2")] for plan in plans]
    assert lost[0] == lost[1]
    assert lost[0][0] > 1.3 * lost[0][1]


def test_taylor_looks_at_the_model_it_is_given(make_context: MakeContext):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 2))
    context, amount = make_context(model, X), Amount({CHANNELS: 0.5}, "taylor")
    first = narrowing.plan(context.model, amount, context)["remove"]["1"]
    other = context.task.copy_of_model()
    with torch.no_grad():
        other[1].weight[[u for u in range(8) if u not in first]] *= 1e-3
    assert set(narrowing.plan(other, amount, context)["remove"]["1"]).isdisjoint(first)

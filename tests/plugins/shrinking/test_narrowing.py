"""Plans: in sections, with what was measured remembered for one model and data only, and never a wrong function."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress.testing import tasks
from autocompress_plugins.pruning.drop_blocks import DropBlocks
from autocompress_plugins.pruning.prune_channels import PruneChannels
from autocompress_plugins.shrinking import channel_graph, narrowing
from autocompress_plugins.shrinking.groups import CHANNELS, EVERY_KIND, HEADS, MLP, RECURRENT
from autocompress_plugins.shrinking.narrowing import Amount
from autocompress_plugins.weights.factorize import Factorize

MakeContext = Callable[..., Context]
X = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
HALF = {CHANNELS: 0.5}


class Dense(nn.Module):
    """Each layer reads all before it, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.layers = nn.ModuleList(nn.Conv2d(8 + 8 * i, 8, 3, padding=1) for i in range(4))
        self.head = nn.Linear(40, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], 1)
        return self.head(x.mean((2, 3)))


def dead(model: nn.Module, units: dict[str, list[int]]) -> None:
    with torch.no_grad():
        for layer, own in units.items():
            model.get_parameter(f"{layer}.weight")[own] = 0
            model.get_parameter(f"{layer}.bias")[own] = 0


@pytest.mark.parametrize("bottom_up", [False, True])
def test_the_least_important_units_go_also_in_sections(bottom_up: bool, make_context: MakeContext):
    """In sections, where a later group lies in a layer that reads several has moved by then."""
    model = Dense()
    chosen = {"first": [0, 3], "layers.0": [1, 2], "layers.1": [5, 7], "layers.2": [0, 6], "layers.3": [2, 3]}
    dead(model, chosen)
    with torch.no_grad():  # and nothing reads them
        for number, layer in enumerate((*model.layers, model.head)):
            for source, units in enumerate(list(chosen.values())[: number + 1]):
                layer.weight[:, [8 * source + unit for unit in units]] = 0
    context = make_context(model, X)
    plan = narrowing.plan(context.model, Amount({CHANNELS: 0.25}, bottom_up=bottom_up), context)
    assert plan == {"remove": chosen}


class Registered(nn.Module):
    """Three layers, held in the order of ``names`` and called in the order of the alphabet."""

    def __init__(self, names: str) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(4, 2 if name == "c" else 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


@pytest.mark.parametrize("names", ["abc", "cba"])
@pytest.mark.parametrize(("bottom_up", "gone"), [(False, 1), (True, 0)])
def test_in_sections_importance_is_found_anew(names: str, bottom_up: bool, gone: int, make_context: MakeContext):
    """Unit 0 of the second layer is larger than unit 1, but by reading what goes from the first. From the input up,
    wherever the model holds its layers.
    """
    model = Registered(names)
    with torch.no_grad():
        for weights, values in (
            (model.a.weight, torch.diag(torch.tensor([0.0, 10.0, 10.0, 10.0]))),
            (model.b.weight, torch.diag(torch.tensor([3.0, 2.0, 9.0, 9.0]))),
            (model.c.weight, torch.ones(2, 4)),
        ):
            weights.copy_(values)
    context = make_context(model, torch.randn(8, 4))
    plan = narrowing.plan(context.model, Amount({CHANNELS: 0.25}, bottom_up=bottom_up), context)
    assert list(plan["remove"].items()) == [("a", [0]), ("b", [gone])]


@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity"])
def test_a_layer_that_does_nothing_goes_first(allocation: str, make_context: MakeContext):
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )
    model(X)
    dead(model, {"0": list(range(4, 16))})
    with torch.no_grad():
        model[2].weight[:, 4:] = 0
    context = make_context(model, X)
    removed = narrowing.plan(context.model, Amount(HALF, allocation=allocation), context)["remove"]
    lost = [len(removed.get(name, [])) for name in ("0", "2")]
    assert lost == [8, 8] if allocation == "uniform" else lost[0] > 1.3 * lost[1]


def test_units_that_matter_alike_go_too(make_context: MakeContext):
    """The gradients of dead units are zero, as many as there are."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 2))
    with torch.no_grad():
        model[1].bias[:12] = -1e6
    context = make_context(model, X)
    amount = Amount({CHANNELS: 0.5}, "taylor", allocation="global")
    (units,) = narrowing.plan(context.model, amount, context)["remove"].values()
    assert len(units) == 8
    assert max(units) < 12


def test_each_direction_and_each_group_of_a_convolution_loses_equally_many(make_context: MakeContext):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.grouped = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1, groups=4)
            self.rnn, self.head = nn.GRU(32, 12, bidirectional=True, batch_first=True), nn.Linear(24, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.grouped(self.conv(x).relu()).mean(2).transpose(1, 2)
            return self.head(self.rnn(x)[0].mean(1))

    context = make_context(Net(), X)
    amount = Amount({CHANNELS: 0.5, RECURRENT: 0.25}, allocation="global")
    removed = narrowing.plan(context.model, amount, context)["remove"]
    for root, run in (("conv", 8), ("grouped", 8), ("rnn.layers.0", 12)):
        counts = torch.bincount(torch.tensor(removed[root]) // run)
        assert len(set(counts.tolist())) == 1
    assert len(removed["rnn.layers.0"]) == 6


def test_heads_are_counted_one_by_one(make_context: MakeContext):
    model = nn.Sequential(nn.TransformerEncoderLayer(16, 8, 8, batch_first=True), nn.Flatten(), nn.Linear(48, 2))
    context = make_context(model, torch.randn(8, 3, 16))
    removed = narrowing.plan(context.model, Amount({HEADS: 0.375}, round_to=8), context)["remove"]
    assert [len(heads) for heads in removed.values()] == [3]


@pytest.fixture(scope="module")
def small(make_context: MakeContext) -> Context:
    return make_context(nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 2)), X)


@pytest.mark.parametrize(("ratio", "round_to"), [(0.1, 16), (0.0, 1)], ids=["too little", "nothing asked"])
def test_nothing_to_remove_fails(ratio: float, round_to: int, small: Context):
    with pytest.raises(CandidateFailed, match="nothing would be removed"):
        narrowing.plan(small.model, Amount({CHANNELS: ratio}, round_to=round_to), small)


def test_a_plan_that_would_compute_something_else_fails(small: Context, monkeypatch: pytest.MonkeyPatch):
    """Groups are checked each by itself and once for a structure; the plan is checked as a whole."""
    monkeypatch.setattr(narrowing, "why_wrong", lambda *_: "it is another function")
    with pytest.raises(CandidateFailed, match="it is another function"):
        narrowing.plan(small.model, Amount(HALF), small)


def test_of_groups_that_are_wrong_together_those_go_that_are_right(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
):
    layers = (nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 2))
    context = make_context(nn.Sequential(nn.Flatten(), *layers), X)
    monkeypatch.setattr(narrowing, "why_wrong", lambda model, x, removals: "not both" if len(removals) > 1 else None)
    assert list(narrowing.plan(context.model, Amount(HALF), context)["remove"]) == ["1"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), "nothing here (1: its units are the model's output)"),
        (nn.Sequential(nn.Flatten(), nn.Softmax(-1)), "nothing here"),
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softmax(1), nn.Flatten(), nn.LazyLinear(2)),
         "nothing here (0: removing units gives another function than zeroing what reads them; "
         "3: its units are the model's output)"),
    ],
    ids=["one layer", "no layer", "a wrong one"],
)  # fmt: skip
def test_refusals_name_the_layers(model: nn.Module, reason: str, make_context: MakeContext):
    model(X)
    assert narrowing.refuses(make_context(model, X), frozenset({CHANNELS}), "nothing here") == reason


def test_what_cannot_be_seen_is_refused_with_the_cause(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch):
    context = make_context(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), X)

    def broken(*_: object) -> Tensor:
        raise ValueError("only on Mondays")

    monkeypatch.setattr(nn.Flatten, "forward", broken)
    reason = narrowing.refuses(context, frozenset({CHANNELS}), "nothing here")
    assert reason is not None
    assert "only on Mondays" in reason


# -- groups that the dependency graph gets wrong -----------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x).relu())


class Scaled(nn.Module):
    """A buffer as wide as the channels of ``first``, which no graph sees: without some of them the code breaks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 32, 3)
        self.blocks, self.head = nn.Sequential(Block(), Block()), nn.Linear(32, 2)
        self.register_buffer("scale", torch.rand(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.second((self.first(x) * self.scale).relu())).mean((2, 3)))


@pytest.fixture(scope="module")
def scaled(make_context: MakeContext) -> Context:
    return make_context(Scaled(), X)


BEFORE = {
    "nothing": lambda model, context: model,
    "drop_blocks": lambda model, context: changed(DropBlocks(), model, context, count=1),
    "factorize": lambda model, context: changed(Factorize(), model, context, keep=0.5, rule="ratio"),
}


def changed(strategy: Any, model: nn.Module, context: Context, **params: Any) -> nn.Module:
    return strategy.apply(model, strategy.plan(model, params, context), context)


@pytest.mark.parametrize(
    ("before", "chosen"),
    [
        ("nothing", {}),
        ("nothing", {"allocation": "sensitivity"}),
        ("nothing", {"schedule": "bottom_up"}),
        ("drop_blocks", {"allocation": "sensitivity"}),
        ("factorize", {"schedule": "bottom_up"}),
    ],
    ids=["nothing, uniform", "nothing, sensitivity", "nothing, bottom up", "drop_blocks", "factorize"],
)
def test_a_wrong_group_is_left_whatever_other_steps_did(before: str, chosen: dict[str, Any], scaled: Context):
    context, strategy = replace(scaled, memory={}), PruneChannels()
    assert strategy.refuses(context) is None
    model = BEFORE[before](context.task.copy_of_model(), context)
    assert (str(model) == str(context.model)) == (before == "nothing")
    params = {p.name: p.default for p in strategy.parameters(context)} | chosen
    smaller = changed(strategy, model, context, **params)
    assert smaller.first.out_channels == 8
    assert smaller.head.in_features < 32
    assert smaller(X).shape == (16, 2)


def test_asking_whether_a_strategy_applies_checks_one_group_of_its_kinds(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
):
    """Opening a task asks each of them; all groups are checked only when all are asked for."""
    real, checked = channel_graph.why_wrong, list[str]()

    def counted(model: nn.Module, inputs: Any, removals: dict[Any, Any]) -> str | None:
        checked.extend(group.kind for group in removals)
        return real(model, inputs, removals)

    monkeypatch.setattr(channel_graph, "why_wrong", counted)
    layers = (
        nn.Linear(6, 16),
        tasks.TransformerBlock(16, 2),
        tasks.TransformerBlock(16, 2),
        nn.Flatten(),
        nn.Linear(48, 2),
    )
    context = make_context(nn.Sequential(*layers), torch.randn(4, 3, 6))
    assert narrowing.refuses(context, frozenset({MLP}), "") is None
    assert checked == [MLP]
    assert narrowing.refuses(context, frozenset({MLP}), "") is None
    assert narrowing.refuses(context, frozenset({RECURRENT}), "no such") == "no such"
    assert checked == [MLP], "what was checked is remembered"
    narrowing.shrinkable_groups(context, EVERY_KIND)
    assert sorted(checked) == sorted([CHANNELS, HEADS, HEADS, MLP, MLP])


def test_what_is_left_alone_has_its_reason_though_others_can_shrink(scaled: Context):
    assert PruneChannels().refuses(scaled) is None
    left = PruneChannels().left_alone(scaled)
    assert left.keys() == {"first", "head"}
    assert left["first"].startswith("removing units breaks the model")
    assert left["head"] == "its units are the model's output"


def test_nothing_is_said_to_be_left_of_a_model_that_cannot_be_seen(make_context: MakeContext):
    """It is refused, with the cause."""

    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo: Any) -> nn.Module:
            raise TypeError("not to be copied")

    context = make_context(nn.Linear(4, 2), torch.randn(8, 4))
    context = replace(context, model=Stubborn(4, 2))
    assert "not to be copied" in (PruneChannels().refuses(context) or "")
    assert PruneChannels().left_alone(context) == {}

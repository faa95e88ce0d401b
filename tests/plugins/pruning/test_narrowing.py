"""Plans: in sections, with what was measured remembered for one model and data only, and never a wrong function."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress_plugins.pruning import narrowing
from autocompress_plugins.pruning.groups import CHANNELS, HEADS, RECURRENT
from autocompress_plugins.pruning.narrowing import Amount, Narrowing

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
    plan = Narrowing().plan(context.model, Amount({CHANNELS: 0.25}, bottom_up=bottom_up), context)
    assert plan == {"remove": chosen}


@pytest.mark.parametrize(("bottom_up", "gone"), [(False, 1), (True, 0)])
def test_in_sections_importance_is_found_anew(bottom_up: bool, gone: int, make_context: MakeContext):
    """Unit 0 of the second layer is larger than unit 1, but by reading what goes from the first."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        for weights, values in (
            (model[0].weight, torch.diag(torch.tensor([0.0, 10.0, 10.0, 10.0]))),
            (model[2].weight, torch.diag(torch.tensor([3.0, 2.0, 9.0, 9.0]))),
            (model[4].weight, torch.ones(2, 4)),
        ):
            weights.copy_(values)
    context = make_context(model, torch.randn(8, 4))
    plan = Narrowing().plan(context.model, Amount({CHANNELS: 0.25}, bottom_up=bottom_up), context)
    assert plan == {"remove": {"0": [0], "2": [gone]}}


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
    removed = Narrowing().plan(context.model, Amount(HALF, allocation=allocation), context)["remove"]
    lost = [len(removed.get(name, [])) for name in ("0", "2")]
    assert lost == [8, 8] if allocation == "uniform" else lost[0] > 1.3 * lost[1]


def test_sensitivity_is_of_these_weights_and_these_data(make_context: MakeContext):
    """One instance serves a whole process."""
    narrowing, model = Narrowing(), nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 2))
    kinds = frozenset({CHANNELS})
    (before,) = narrowing.sensitivity(make_context(model, X), kinds)
    (other_data,) = narrowing.sensitivity(make_context(model, 3 * X), kinds)
    with torch.no_grad():
        model[3].weight *= 5
    (other_weights,) = narrowing.sensitivity(make_context(model, X), kinds)
    assert len({before.loss, other_data.loss, other_weights.loss}) == 3


def test_shares_by_sensitivity_are_those_of_the_trained_reference(make_context: MakeContext):
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    model = nn.Sequential(*layers)
    model(X)
    dead(model, {"0": list(range(4, 16))})
    with torch.no_grad():
        model[2].weight[:, 4:] = 0
    context = make_context(model, X)
    changed = context.task.copy_of_model()
    for layer in (0, 2, 5):
        changed[layer].reset_parameters()
    amount = Amount(HALF, allocation="sensitivity")
    plans = [Narrowing().plan(one, amount, context)["remove"] for one in (context.model, changed)]
    lost = [[len(plan.get(name, [])) for name in ("0", "2")] for plan in plans]
    assert lost[0] == lost[1]
    assert lost[0][0] > 1.3 * lost[0][1]


def test_taylor_looks_at_the_model_it_is_given(make_context: MakeContext):
    narrowing, model = Narrowing(), nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 2))
    context, amount = make_context(model, X), Amount(HALF, "taylor")
    first = narrowing.plan(context.model, amount, context)["remove"]["1"]
    other = context.task.copy_of_model()
    with torch.no_grad():
        other[1].weight[[u for u in range(8) if u not in first]] *= 1e-3
    assert set(narrowing.plan(other, amount, context)["remove"]["1"]).isdisjoint(first)


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
    removed = Narrowing().plan(context.model, amount, context)["remove"]
    for root, run in (("conv", 8), ("grouped", 8), ("rnn.layers.0", 12)):
        counts = torch.bincount(torch.tensor(removed[root]) // run)
        assert len(set(counts.tolist())) == 1
    assert len(removed["rnn.layers.0"]) == 6


def test_heads_are_counted_one_by_one(make_context: MakeContext):
    model = nn.Sequential(nn.TransformerEncoderLayer(16, 8, 8, batch_first=True), nn.Flatten(), nn.Linear(48, 2))
    context = make_context(model, torch.randn(8, 3, 16))
    removed = Narrowing().plan(context.model, Amount({HEADS: 0.375}, round_to=8), context)["remove"]
    assert [len(heads) for heads in removed.values()] == [3]


def test_nothing_to_remove_fails(cnn: Context):
    with pytest.raises(CandidateFailed, match="nothing would be removed"):
        Narrowing().plan(cnn.model, Amount({CHANNELS: 0.1}, round_to=16), cnn)


def test_a_plan_that_would_compute_something_else_fails(cnn: Context, monkeypatch: pytest.MonkeyPatch):
    """Groups are checked each by itself and once for a structure; the plan is checked as a whole."""
    monkeypatch.setattr(narrowing, "why_wrong", lambda *_: "it is another function")
    with pytest.raises(CandidateFailed, match="it is another function"):
        Narrowing().plan(cnn.model, Amount(HALF), cnn)


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
    assert Narrowing().refuses(make_context(model, X), frozenset({CHANNELS}), "nothing here") == reason


def test_what_cannot_be_seen_is_refused_with_the_cause(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch):
    context = make_context(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), X)

    def broken(*_: object) -> Tensor:
        raise ValueError("only on Mondays")

    monkeypatch.setattr(nn.Flatten, "forward", broken)
    reason = Narrowing().refuses(context, frozenset({CHANNELS}), "nothing here")
    assert reason is not None
    assert "only on Mondays" in reason

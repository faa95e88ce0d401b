"""A removed unit that a kept one stands in for is made up for, whatever the network."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.repair import repair as under_test
from autocompress.candidate.repair.dropped_blocks import taking_over
from autocompress.candidate.repair.original import GaveRows, OriginalRun, run_original
from autocompress.plugin.contract import Counterparts
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.channel_graph import every_group
from autocompress_plugins.shrinking.counterparts import (
    factored_counterparts,
    narrowed_counterparts,
    shortened_counterparts,
)
from autocompress_plugins.shrinking.groups import HEADS
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.weights.factorize import Factorize
from tests.candidate.repair.networks import (
    CASES,
    IMAGES,
    SERIES,
    VECTORS,
    GroupedQueries,
    Recurrent,
    apply_and_repair,
    context_of,
    double,
    doubled,
    lively,
    narrowed,
    output,
    plain,
    same_state,
)


@pytest.mark.parametrize("name", CASES)
def test_a_double_that_goes_is_made_up_for(name: str) -> None:
    model, x, removals = doubled(name)
    changed, found = narrowed(model, x, removals)
    few = name == "into a flattened image"  # one row an example for a wide layer: no weak ridge is tried
    assert found.before > 1e-3
    assert found.error < (0.1 if few else 3e-3) * found.before
    assert {fit.layer for fit in found.fits} <= dict(changed.named_modules()).keys()
    assert all(fit.after < fit.before for fit in found.fits)
    for data in (x, torch.randn(CASES[name][1])):
        before, after = output(model, data), output(changed, data)
        assert float((after - before).square().mean().sqrt()) < 0.05 * float(before.std(0).mean())


@pytest.mark.parametrize("name", CASES)
def test_an_unchanged_model_stays_exactly_as_it_is(name: str) -> None:
    """The sample's own statistics are not those that its norms learned."""
    model, x, _ = doubled(name)
    changed, found = narrowed(model, x[:13], {})
    assert same_state(changed, model)
    assert found.fits == ()


def test_queries_that_share_a_key_go_together_and_are_made_up_for_in_the_output_projection() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.attention, self.head = nn.Linear(5, 16), GroupedQueries(), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.head((x + self.attention(x)).mean(1))

    model, x = Attending().eval(), torch.randn(SERIES)
    prunable(model, x[:2])
    (heads,) = (group for group in every_group(model, x[:2]) if group.kind == HEADS)
    changed, found = narrowed(model, x, {heads.root: [1]})
    assert found.error < 3e-3 * found.before
    assert "attention.o" in {fit.layer for fit in found.fits}
    assert not {"attention.q", "attention.k", "attention.v"} & {fit.layer for fit in found.fits}
    before, after = output(model, x), output(changed, x)
    assert float((after - before).square().mean().sqrt()) < 0.05 * float(before.std(0).mean())


def test_layers_before_the_change_and_those_it_does_not_reach_stay_exactly_as_they_are() -> None:
    model, x, removals = doubled("beside a stream")
    changed, found = narrowed(model, x, removals)
    moved = {
        name
        for name, value in changed.named_parameters()
        if not torch.equal(value, model.get_parameter(name)) or value.shape != model.get_parameter(name).shape
    }
    assert {name.rpartition(".")[0] for name in moved} >= {"blocks.1.0", "blocks.1.1", "blocks.1.3"}
    assert not any(name.startswith(("stem", "blocks.0")) for name in moved)
    assert {fit.layer for fit in found.fits} <= {"blocks.1.3", "head"}


@pytest.mark.parametrize("examples", [13, 251])
def test_a_norm_moves_by_as_much_as_what_it_reads_and_no_more(examples: int) -> None:
    """Of two channels that go one was nothing but a constant: what is left reads the same but for a shift, so that its
    variance stays, however few examples tell it.
    """
    model = lively(plain())
    with torch.no_grad():
        model[1].weight[[2, 6]] = 0
        model[1].bias[[2, 6]] = torch.tensor([1.0, 2.0])
        model[3] = nn.Conv2d(8, 6, 3)
    x = torch.randn(examples, *IMAGES[1:])
    context = context_of(x)
    declared = narrowed_counterparts(model, {"0": [2, 6]}, context)
    changed = narrowing.apply(copy.deepcopy(model), {"remove": {"0": [2, 6]}}, context)
    found = apply_and_repair(model, changed, declared, x, refits=False)
    assert found.error < 1e-8
    torch.testing.assert_close(changed[4].running_var, model[4].running_var, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(changed[4].running_mean, model[4].running_mean, atol=1e-2)
    assert torch.equal(changed[1].running_mean, model[1].running_mean[[0, 1, 3, 4, 5, 7]])


# -- one step after another, and other steps ---------------------------------------------------------------------------


def test_two_steps_one_after_the_other_are_each_repaired() -> None:
    model, x, first = doubled("beside a stream")
    double(model.get_submodule("blocks.0.0"), 1, 2)
    double(model.get_submodule("blocks.0.1"), 1, 2)
    once, _ = narrowed(model, x, first)
    twice, found = narrowed(once, x, {"blocks.0.0": [2]})
    assert (once.blocks[1][0].out_channels, twice.blocks[0][0].out_channels) == (7, 7)
    assert found.error < 3e-3 * found.before
    before = output(model, x)
    assert float((output(twice, x) - before).square().mean().sqrt()) < 0.05 * float(before.std(0).mean())


def test_behind_a_dropped_block_layers_are_refitted_to_what_they_gave() -> None:
    """The block that goes is a linear map of the stream: what reads the stream takes it over, and the layer before does
    not, since something else than an addition lies between.
    """
    model, x = linear_blocks(), torch.randn(IMAGES)
    model[0] = nn.Sequential(model[0], nn.ReLU())
    changed, declared = shortened(model, ["1"])
    assert {own.layer for own in declared.layers} == {"0.0", "2.layers.0", "2.layers.2", "3.layers.0", "7"}
    found = apply_and_repair(model, changed, declared, x)
    assert found.error < 0.7 * found.before
    fits = {fit.layer: fit for fit in found.fits}
    assert fits["2.layers.0"].after < 1e-4 * fits["2.layers.0"].before
    assert torch.equal(changed[0][0].weight, model[0][0].weight)
    assert taking_over(*shortened(model, ["1"]), run_original(model, x, len(x)), x) is None


@pytest.mark.parametrize("dropped", [["1"], ["3"], ["1", "3"]], ids=str)
def test_what_dropped_blocks_added_is_taken_over_by_the_layer_before_where_it_is_added_to_the_stream(
    dropped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block is a linear map of what the first layer gives."""
    model, x = linear_blocks(), torch.randn(IMAGES)
    changed, declared = shortened(model, dropped)
    found = apply_and_repair(model, changed, declared, x)
    before = {"1": "0", "3": "2.layers.2"}
    assert {before[name] for name in dropped} <= {fit.layer for fit in found.fits}
    monkeypatch.setattr(under_test, "taking_over", lambda *_: None)
    behind_alone = apply_and_repair(model, *shortened(model, dropped), x)
    assert found.before == behind_alone.before
    assert found.error < (1e-3 * found.before if dropped == ["1"] else 0.7 * behind_alone.error)
    for data in (x, torch.randn(IMAGES)):
        wanted, now = output(model, data), output(changed, data)
        error = float((now - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum())
        assert error < 2 * found.error + 1e-6


def test_of_blocks_one_after_the_other_the_layer_before_takes_over_what_all_added() -> None:
    model, x = linear_blocks(), torch.randn(IMAGES)
    model[2] = copy.deepcopy(model[3])
    found = apply_and_repair(model, *shortened(model, ["1", "2"]), x)
    assert found.error < 1e-3 * found.before
    assert [fit.layer for fit in found.fits][:1] == ["0"]


def test_a_stage_of_which_the_only_block_is_dropped_adds_it_once() -> None:
    model, x = linear_blocks(), torch.randn(IMAGES)
    model[1] = nn.Sequential(model[1])
    found = apply_and_repair(model, *shortened(model, ["1.0"]), x)
    assert found.error < 1e-3 * found.before


class Pairs(nn.Module):
    """Gives its block a pair, and is given one back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.last = nn.Linear(8, 8), PairBlock(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        first, second = self.block((stem, stem.sin()))
        return self.last(first + second)


class PairBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return pair[0] + self.layer(pair[0]), pair[1]


def test_behind_a_dropped_block_that_is_given_a_tuple_layers_are_refitted() -> None:
    model, x = Pairs().eval(), torch.randn(VECTORS)
    found = apply_and_repair(model, *shortened(model, ["block"]), x)
    assert found.error < found.before
    assert {fit.layer for fit in found.fits} == {"last"}


def test_where_the_models_own_code_refuses_what_is_tried_layers_behind_are_refitted() -> None:
    class Bounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) < IMAGES[0] and float(x.detach().abs().max()) > bound:
                raise ValueError("out of bounds")
            return x

    model, x = linear_blocks(), torch.randn(IMAGES)
    bound = float(output(model[0], x[:2]).abs().max()) * 1.01
    model.insert(1, Bounded())
    found = apply_and_repair(model, *shortened(model, ["2"]), x)
    assert found.error < found.before


def test_where_the_output_is_no_nearer_for_it_the_layer_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = linear_blocks(), torch.randn(IMAGES)

    def noise(changed: nn.Module, declared: Counterparts, original: OriginalRun, inputs: Tensor) -> OriginalRun:
        (stem,) = original.every_call("0")
        assert isinstance(stem, GaveRows)
        return replace(original, gave={**original.gave, "0": [replace(stem, outputs=3 * stem.outputs.flip(2))]})

    monkeypatch.setattr(under_test, "taking_over", noise)
    changed, declared = shortened(model, ["1"])
    found = apply_and_repair(model, changed, declared, x)
    assert torch.equal(changed[0].weight, model[0].weight)
    assert found.error < found.before
    before, after = output(model, x), output(changed, x)
    error = (after - before).square().sum() / (before - before.mean(0)).square().sum()
    assert found.error == pytest.approx(float(error), rel=1e-3)


class Beside(nn.Module):
    """What it is given, and what its layers make of it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def linear_blocks() -> nn.Module:
    """Of three beside a stream the first and the last are linear maps."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1))
    model.append(Beside(nn.Conv2d(8, 8, 1)))
    model.append(Beside(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1)))
    model.append(Beside(nn.Conv2d(8, 8, 1)))
    return model.extend([nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]).eval()


def shortened(model: nn.Module, dropped: list[str]) -> tuple[nn.Module, Counterparts]:
    return without(copy.deepcopy(model), dropped), shortened_counterparts(model, dropped)


@pytest.mark.parametrize("in_form", [False, True])
def test_behind_a_dropped_recurrent_layer_what_is_left_is_refitted(in_form: bool) -> None:
    model, x = Recurrent(nn.LSTM).eval(), torch.randn(SERIES)
    with torch.no_grad():
        model.rnn = nn.LSTM(5, 6, 3, batch_first=True, bidirectional=True)
    if in_form:
        prunable(model, x[:2])
    declared = shortened_counterparts(model, ["rnn:1"])
    stands = {own.layer: own.original for own in declared.layers}
    assert stands["head"] == "head"
    assert stands.get("rnn.layers.1.core") == ("rnn.layers.2.core" if in_form else None)
    changed = without(copy.deepcopy(model), ["rnn:1"])
    found = apply_and_repair(model, changed, declared, x)
    assert found.error < 0.5 * found.before
    assert ("rnn.layers.1.core" in {fit.layer for fit in found.fits}) == in_form


def test_the_second_of_two_thin_layers_gives_what_the_one_gave() -> None:
    """A layer that reads four directions only is a product of thin ones, which singular values alone do not see."""
    basis = torch.randn(4, 32)
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 32), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 3)).eval()
    with torch.no_grad():
        model[1].weight.copy_(basis.T)
    x = torch.randn(VECTORS)
    declared = factored_counterparts(model, ["2"])
    changed = Factorize().apply(copy.deepcopy(model), {"ranks": {"2": 5}}, context_of(x))
    found = apply_and_repair(model, changed, declared, x)
    assert "2.1" in {fit.layer for fit in found.fits}
    assert "2.0" not in {fit.layer for fit in found.fits}
    assert found.error < 1e-3 * found.before


# -- what is left as it is ---------------------------------------------------------------------------------------------

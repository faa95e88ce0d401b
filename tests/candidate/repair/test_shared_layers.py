"""A layer that is called more than once is repaired once, on what it reads at all of its calls."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.repair import front_to_back
from autocompress.candidate.repair.original import GaveRows, run_original
from autocompress.candidate.repair.recurrent_rows import STEP_CELLS, GaveStates
from autocompress.candidate.repair.refitting import refit_matrix
from autocompress.candidate.repair.repair import Repair, repair
from autocompress.candidate.repair.rows import Places
from autocompress.plugin.contract import Counterpart, Counterparts
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.counterparts import narrowed_counterparts, shortened_counterparts
from autocompress_plugins.shrinking.prunable import prunable
from tests.candidate.repair.networks import (
    SERIES,
    VECTORS,
    N,
    apply_and_repair,
    context_of,
    double,
    lively,
    narrowed,
    output,
    same_state,
)

IMAGES = (N, 3, 8, 8)


class SharedBlocks(nn.Module):
    """(N, 8) -> (N, 3): the same block four times after each other, as in ALBERT."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = x + self.down(torch.tanh(self.up(x)))
        return self.head(x)


class Pyramid(nn.Module):
    """(N, 3, 8, 8) -> (N, 4): one head, with norms, over three levels of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one, self.norm = nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.other, self.last = nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x, given = self.stem(x).relu(), []
        for size in (8, 6, 4):
            level = nn.functional.adaptive_avg_pool2d(x, size)
            given.append(self.last(self.other(self.norm(self.one(level)).relu())).relu().mean((2, 3)))
        return sum(given[1:], given[0])


class Steps(nn.Module):
    """(N, T, 5) -> (N, 3): two cells after each other and what reads them, called step by step."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.one, self.two, self.head = kind(5, 6), kind(6, 6), nn.Linear(6, 3)
        self.both = kind is nn.LSTMCell

    def forward(self, x: Tensor) -> Tensor:
        one = two = None
        given = []
        for step in range(x.shape[1]):
            one = self.one(x[:, step], one)
            two = self.two(one[0] if self.both else one, two)
            given.append(self.head(two[0] if self.both else two))
        return torch.stack(given).mean(0)


SHARED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Sequence[str]]] = {
    "blocks": (SharedBlocks, VECTORS, ["up"]),
    "pyramid": (Pyramid, IMAGES, ["one", "norm"]),
    "cells": (lambda: Steps(nn.LSTMCell), SERIES, ["one"]),
    "gru cells": (lambda: Steps(nn.GRUCell), SERIES, ["one"]),
    "rnn cells, the last one": (lambda: Steps(nn.RNNCell), SERIES, ["two"]),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_double_that_goes_is_made_up_for_at_all_calls(name: str) -> None:
    make, shape, modules = SHARED[name]
    model, x = lively(make()), torch.randn(shape)
    prunable(model, x[:2])
    for module in modules:
        double(model.get_submodule(module), 1, 4)
    changed, found = narrowed(model, x, {modules[0]: [4]})
    assert found.before > 1e-3
    assert found.error < 3e-3 * found.before
    parts = [(fit.layer, fit.part) for fit in found.fits]
    assert len(parts) == len(set(parts)), "each is fitted once"
    for data in (x, torch.randn(shape)):
        before, after = output(model, data), output(changed, data)
        assert float((after - before).square().mean().sqrt()) < 0.05 * float(before.std(0).mean())


@pytest.mark.parametrize("name", SHARED)
def test_an_unchanged_model_stays_exactly_as_it_is(name: str) -> None:
    make, shape, _ = SHARED[name]
    model, x = lively(make()), torch.randn(shape)[:13]
    prunable(model, x[:2])
    changed, found = narrowed(model, x, {})
    assert same_state(changed, model)
    assert found.fits == ()


def changed_by_hand(model: nn.Module, x: Tensor, readers: Sequence[str], **layers: nn.Module) -> tuple[Any, Repair]:
    """With other layers in place of some, and these refitted."""
    changed = copy.deepcopy(model).eval()
    for name, layer in layers.items():
        setattr(changed, name, layer)
    widths = {name: len(next(iter(model.get_submodule(name).parameters()))) for name in readers}
    declared = tuple(Counterpart(name, name, tuple(range(width))) for name, width in widths.items())
    return changed, apply_and_repair(model, changed, Counterparts(copy.deepcopy(model).eval(), declared), x)


class Twice(nn.Module):
    """(N, 8) -> (N, 4): one layer that reads two functions of the same."""

    def __init__(self, function: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.functions, self.reader = (function, other), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.reader(function(x)) for function in self.functions], 1)


def test_where_the_calls_disagree_the_fit_is_that_of_all_rows_together() -> None:
    model, x = Twice(lambda x: x, lambda x: 2 * x.flip(1)), torch.randn(VECTORS)
    changed = Twice(lambda x: x[:, :6], lambda x: 2 * x.flip(1)[:, :6])
    x[:, 6:] = x[:, :2]
    kept = tuple(range(6))
    changed.reader = nn.Linear(8, 4)
    changed.load_state_dict(model.state_dict())
    changed.reader.weight, changed.reader.in_features = nn.Parameter(changed.reader.weight[:, :6].detach()), 6
    declared = Counterparts(copy.deepcopy(model).eval(), (Counterpart("reader", "reader", (0, 1, 2, 3), kept),))
    found = apply_and_repair(model, changed.eval(), declared, x)
    (fit,) = found.fits
    fitted = torch.arange(N) % 4 != 3
    assert fit.rows == 2 * int(fitted.sum())
    z = torch.cat([function(x[fitted]) for function in changed.functions])
    t = torch.cat([function(x[fitted]) for function in model.functions]) @ model.reader.weight.detach().T
    ones = torch.ones(len(z), 1)
    wanted = torch.linalg.lstsq(torch.cat([z, ones], 1), t).solution[:6].T
    torch.testing.assert_close(changed.reader.weight.detach(), wanted, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_a_fit_is_kept_only_where_the_error_over_all_calls_falls(scale: float) -> None:
    """What the first call's rows say of held-out examples is true, and what the second call's say is not."""
    layer, wanted = nn.Linear(4, 2, bias=False), torch.randn(4, 2)
    own, read = layer.weight.detach().clone(), [torch.randn(1, N, 3, 4), scale * torch.randn(1, N, 3, 4)]
    targets = [z[0] @ wanted for z in read]
    targets[1][3::4] *= -1
    gave = [GaveRows(each, Places((3,), torch.arange(3))) for each in targets]
    (fit,) = refit_matrix("it", [layer], read, gave, torch.arange(2), normed=False)
    assert (fit.ridge is not None) == (scale < 1)
    assert (fit.after < fit.before) == (scale < 1)
    assert torch.equal(layer.weight.detach(), own) == (scale > 1)


def test_statistics_are_recalibrated_over_all_calls() -> None:
    """As much as the mean and the variance over both levels have moved."""

    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(8, 4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.first(x)) + self.norm(self.first(x).square())

    model, x = lively(Normed()), torch.randn(VECTORS)
    other = nn.Linear(8, 4)
    changed, found = changed_by_hand(model, x, ["norm"], first=other)
    assert found.fits == ()
    with torch.no_grad():
        before, now = (torch.cat([layer(x), layer(x).square()]).double() for layer in (model.first, other))
    scale = now.var(0) / before.var(0)
    norm, learned = changed.norm, model.norm
    torch.testing.assert_close(norm.running_var.double(), learned.running_var * scale, rtol=1e-4, atol=1e-5)
    mean = (learned.running_mean - before.mean(0)) * scale.sqrt() + now.mean(0)
    torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)


def test_where_a_layer_is_called_less_often_than_it_was_it_stays_as_it_is() -> None:
    class Often(nn.Module):
        def __init__(self, times: int) -> None:
            super().__init__()
            self.times, self.layer, self.head = times, nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(self.times):
                x = self.layer(x).tanh()
            return self.head(x)

    model, x = Often(3).eval(), torch.randn(VECTORS)
    changed = Often(2).eval()
    changed.load_state_dict(model.state_dict())
    layers = tuple(Counterpart(name, name, tuple(range(width))) for name, width in (("layer", 8), ("head", 3)))
    found = apply_and_repair(model, changed, Counterparts(copy.deepcopy(model), layers), x)
    assert torch.equal(changed.layer.weight, model.layer.weight)
    assert [fit.layer for fit in found.fits] == ["head"], "on what the layer itself gives"
    before, after = output(model, x), output(changed, x)
    error = (after - before).square().sum() / (before - before.mean(0)).square().sum()
    assert found.error == pytest.approx(float(error), rel=1e-4)


@pytest.mark.parametrize("most", [0, 1])
def test_with_no_more_runs_all_that_is_left_is_repaired_in_the_last_one(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_to_back, "MOST_REPEATED", most)
    model, x = Steps(nn.GRUCell).eval(), torch.randn(SERIES)
    prunable(model, x[:2])
    double(model.get_submodule("one"), 1, 4)
    changed, found = narrowed(model, x, {"one": [4]})
    assert found.error < 3e-3 * found.before
    before, after = output(model, x), output(changed, x)
    assert float((after - before).square().sum() / (before - before.mean(0)).square().sum()) < 1.1 * found.error + 1e-9


def test_without_memory_for_what_stands_in_a_layer_is_fitted_to_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autocompress.candidate.repair.original.OUTPUT_BYTES", 0)
    model, x = lively(Pyramid()), torch.randn(IMAGES)
    prunable(model, x[:2])
    for name in ("one", "norm"):
        double(model.get_submodule(name), 1, 4)
    found = narrowed(model, x, {"one": [4]})[1]
    assert found.error < 3e-3 * found.before, "no call of these depends on another"


class Named(Steps):
    """The state is named first."""

    def forward(self, x: Tensor) -> Tensor:
        state = torch.ones(len(x), 6)
        for step in range(x.shape[1]):
            state = self.one(hx=state, input=x[:, step])
        return self.head(state)


def test_what_a_cell_reads_is_told_from_its_state_by_name() -> None:
    x = torch.randn(SERIES)
    gave = GaveStates.joined(run_original(Named(nn.GRUCell).eval(), x, N).every_call("one"))  # type: ignore[arg-type]
    assert torch.equal(gave.inputs, x)
    assert bool(gave.began[0][:, 0].all()), "the state that the first step began with"


class AsLongAsTheLongest(Steps):
    """No step is made behind the end of the longest sequence, which is not among the first examples."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, : int(x[:, 0, 0].max())])


def of_several_lengths() -> Tensor:
    x = torch.randn(SERIES)
    x[:, 0, 0] = 1 + (torch.arange(N) >= 5) * 4.0
    return x


def test_where_the_data_say_how_often_a_layer_is_called_it_is_repaired_on_all_calls() -> None:
    model, x = AsLongAsTheLongest(nn.GRUCell).eval(), of_several_lengths()
    assert len(run_original(model, x, N).outputs["one"]) == 5, "all calls can stand in"
    prunable(model, x[-2:])
    double(model.get_submodule("one"), 1, 4)
    found = narrowed(model, x, {"one": [4]})[1]
    assert found.error < 3e-3 * found.before


def test_rows_are_bounded_by_the_calls_that_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all layers together, with what those will read that are called more than once."""
    bound = 4 * N * 5 * (3 * (6 + 4 + 1) + 2)
    monkeypatch.setattr("autocompress.candidate.repair.original.ROW_BYTES", bound)

    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            again = int(x[:, 0, 0].max())
            return self.head(sum((self.shared(x) for _ in range(again - 1)), self.shared(x)))

    x = torch.randn(N, 100, 6)
    x[:, 0, 0] = 1 + (torch.arange(N) >= 5) * 2.0
    run = run_original(Levels(), x, N)
    gave = {name: run.every_call(name) for name in ("shared", "head")}
    assert [len(calls) for calls in gave.values()] == [3, 1]
    values = {"shared": 5 + 6, "head": 2}
    kept = sum(4 * N * len(one.places.chosen) * values[name] for name, calls in gave.items() for one in calls)  # type: ignore[union-attr]
    assert 0.8 * bound < kept <= bound


def test_once_the_time_is_up_no_run_begins_again() -> None:
    model, x, calls = lively(Pyramid()), torch.randn(IMAGES), []
    prunable(model, x[:2])
    context = context_of(x)
    declared = narrowed_counterparts(model, {"stem": [4]}, context)
    changed = narrowing.apply(copy.deepcopy(model), {"remove": {"stem": [4]}}, context)
    run, before = run_original(declared.whole, x, N), copy.deepcopy(changed.eval())
    changed.stem.register_forward_hook(lambda *_: calls.append(1))
    found = repair(changed, declared, run, x, lambda: False)
    assert found.fits == ()
    assert len(calls) == 4, "with norms recalibrated alone, twice, and what that gives"
    for norm in ("norm", "last"):
        assert not torch.equal(changed.get_submodule(norm).running_var, before.get_submodule(norm).running_var)
    wanted, plain, now = (output(each, x) for each in (model, before, changed))
    assert float((now - wanted).square().mean()) < float((plain - wanted).square().mean())


class Padded(Steps):
    """Behind the end of a sequence the states are carried on."""

    def forward(self, x: Tensor) -> Tensor:
        lengths, state = 3 + 4 * (torch.arange(len(x)) % 2), None
        for step in range(x.shape[1]):
            gives = self.one(x[:, step], state)
            state = gives if state is None else torch.where((step < lengths)[:, None], gives, state)
        return self.head(state)


def test_steps_behind_the_end_of_a_sequence_are_no_rows() -> None:
    model, x = Padded(nn.GRUCell).eval(), torch.randn(SERIES)
    x[::2, 3:] = 1e3  # whatever stands there
    gave = GaveStates.joined(run_original(model, x, N).every_call("one"))  # type: ignore[arg-type]
    assert gave.valid.sum(1).tolist() == [3 if row % 2 == 0 else 7 for row in range(N)]
    assert torch.equal(gave.valid, gave.began_valid)
    prunable(model, x[:2])
    double(model.get_submodule("one"), 1, 4)
    found = narrowed(model, x, {"one": [4]})[1]
    assert found.error < 3e-3 * found.before
    assert {fit.rows for fit in found.fits if fit.part} == {int(gave.valid[torch.arange(N) % 4 != 3].sum())}


def test_a_step_that_ends_the_work_leaves_no_hooks() -> None:
    model, x = Steps(nn.LSTMCell).eval(), torch.randn(SERIES)
    prunable(model, x[:2])
    context, asked = context_of(x), []
    declared = narrowed_counterparts(model, {"one": [4]}, context)
    changed = narrowing.apply(copy.deepcopy(model), {"remove": {"one": [4]}}, context)

    def stop() -> bool:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        repair(changed, declared, run_original(declared.whole, x, N), x, stop)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in changed.modules())


@pytest.mark.parametrize("kind", STEP_CELLS)
def test_the_recurrent_matrix_is_fitted_on_the_states_of_the_original(kind: Any) -> None:
    """It is what least squares make of the states that each step began with, from zero."""
    model, x = Steps(kind).eval(), torch.randn(SERIES)
    run = run_original(model, x, N)
    gave = GaveStates.joined(run.every_call("two"))  # type: ignore[arg-type]
    assert gave.inputs.shape == (N, SERIES[1], 6)
    (began,) = gave.began
    assert not began[:, 0].any()
    if kind is not nn.LSTMCell:
        torch.testing.assert_close(model.two(gave.inputs[:, 2], began[:, 2]).detach(), began[:, 3])


class TiedBlocks(nn.Module):
    """(N, 8) -> (N, 3): a block, then blocks beside the stream that are modules of their own with the same weights."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.ups, self.downs = (nn.ModuleList(nn.Linear(8, 8) for _ in range(blocks)) for _ in range(2))
        self.head = nn.Linear(8, 3)
        for layers in (self.ups, self.downs):
            for layer in layers[1:]:
                layer.weight = layers[0].weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for up, down in zip(self.ups, self.downs, strict=True):
            x = x + down(torch.tanh(up(x)))
        return self.head(x)


def without_the_first(model: nn.Module) -> tuple[nn.Module, Counterparts]:
    return without(copy.deepcopy(model), ["first"]), shortened_counterparts(model, ["first"])


def test_layers_that_share_their_weights_are_fitted_together_and_share_them_still() -> None:
    model, x = TiedBlocks().eval(), torch.randn(VECTORS)
    changed, declared = without_the_first(model)
    found = apply_and_repair(model, changed, declared, x)
    names = [fit.layer for fit in found.fits]
    assert names == [name for name in names if name in ("ups.0", "downs.0", "head")], "one fit for all"
    assert {"ups.0", "head"} <= set(names)
    for layers, before in ((changed.ups, model.ups), (changed.downs, model.downs)):
        assert all(layer.weight is layers[0].weight for layer in layers)
        assert len({id(layer.bias) for layer in layers}) == 3, "a bias of its own stays one"
        moved = [layer.bias.detach() - own.bias.detach() for layer, own in zip(layers, before, strict=True)]
        for own in moved[1:]:
            torch.testing.assert_close(own, moved[0])
    left, behind = without_the_first(model)
    wanted, plain, now = (output(each, x) for each in (model, left, changed))
    assert float((now - wanted).square().mean()) < 0.3 * float((plain - wanted).square().mean())
    alone = Counterparts(behind.whole, tuple(own for own in behind.layers if own.layer == "head"))
    assert found.error < 0.8 * apply_and_repair(model, left, alone, x).error, "than with the head alone"


def test_the_joint_fit_is_that_of_one_layer_that_is_called_as_often() -> None:
    """Whichever of them is called first."""

    class Both(nn.Module):
        def __init__(self, *, tied: bool) -> None:
            super().__init__()
            self.one = nn.Linear(8, 4)
            self.other = nn.Linear(8, 4) if tied else self.one
            self.other.weight, self.other.bias = self.one.weight, self.one.bias

        def forward(self, x: Tensor) -> Tensor:
            other = self.other((2 * x.flip(1))[:, : self.other.in_features])
            return other + 3 * self.one(x[:, : self.one.in_features])

    x, kept = torch.randn(VECTORS), tuple(range(6))
    x[:, 6:] = x[:, :2]
    wanted, found = Both(tied=True).eval(), []
    for tied in (True, False):
        model, changed = Both(tied=tied), Both(tied=tied)
        model.load_state_dict(wanted.state_dict(), strict=tied)
        for name in ("one", "other") if tied else ("one",):
            getattr(changed, name).in_features = 6
        weight = nn.Parameter(wanted.one.weight[:, :6].detach().clone())
        changed.one.weight = changed.other.weight = weight
        changed.one.bias = changed.other.bias = nn.Parameter(wanted.one.bias.detach().clone())
        layers = [Counterpart(name, name, (0, 1, 2, 3), kept) for name in (("one", "other") if tied else ("one",))]
        repaired = apply_and_repair(model, changed, Counterparts(model.eval(), tuple(layers)), x)
        found.append((changed, repaired))
    (together, fits), (one, of_one) = found
    assert [fit.rows for fit in fits.fits] == [fit.rows for fit in of_one.fits] == [2 * (N - N // 4)]
    assert together.one.weight is together.other.weight
    torch.testing.assert_close(together.one.weight, one.one.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.one.bias, one.one.bias, atol=1e-5, rtol=1e-4)


def unlike_an_embedding(model: Any) -> None:
    model.embedding = nn.Embedding(8, 8)
    model.embedding.weight = model.ups[0].weight


def unlike_in_weights(model: Any) -> None:
    model.downs[0].bias = model.ups[0].bias


@pytest.mark.parametrize("ties", [unlike_an_embedding, unlike_in_weights])
def test_layers_that_share_a_parameter_with_what_is_not_like_them_stay_as_they_are(ties: Callable[[Any], None]) -> None:
    model, x = TiedBlocks(blocks=1).eval(), torch.randn(VECTORS)
    ties(model)
    changed, declared = without_the_first(model)
    found = apply_and_repair(model, changed, declared, x)
    assert "ups.0" not in {fit.layer for fit in found.fits}
    assert "head" in {fit.layer for fit in found.fits}
    assert torch.equal(changed.ups[0].weight, model.ups[0].weight)


def test_where_one_of_them_is_not_called_any_more_all_stay_as_they_are() -> None:
    class Fewer(TiedBlocks):
        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.head(x + self.downs[0](torch.tanh(self.ups[0](x))))

    model, x = TiedBlocks(blocks=2).eval(), torch.randn(VECTORS)
    changed, declared = Fewer(blocks=2).eval(), shortened_counterparts(model, [])
    changed.load_state_dict(model.state_dict())
    found = apply_and_repair(model, changed, declared, x)
    assert [fit.layer for fit in found.fits] == ["head"], "on what they give themselves"
    for name in ("ups", "downs"):
        assert torch.equal(getattr(changed, name)[0].weight, getattr(model, name)[0].weight)
    before, after = output(model, x), output(changed, x)
    error = (after - before).square().sum() / (before - before.mean(0)).square().sum()
    assert found.error == pytest.approx(float(error), rel=1e-4)

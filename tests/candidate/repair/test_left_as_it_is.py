"""What is not understood, and what there is no time for, is left as it is."""

import copy
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.repair.original import run_original
from autocompress.candidate.repair.recurrent_rows import GaveStates
from autocompress.candidate.repair.repair import Repair, repair
from autocompress.plugin.contract import Counterpart, Counterparts
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.counterparts import (
    narrowed_counterparts,
)
from tests.candidate.repair.networks import (
    IMAGES,
    VECTORS,
    N,
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


class Wide(nn.Module):
    """What lies behind one wide layer of doubles, as a test makes it."""

    def __init__(self, behind: Callable[["Wide", Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(8, 12)
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.behind = behind
        double(self.first, 0, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self, self.first(x).relu())


def narrowed_by_hand(model: Wide, x: Tensor, readers: Sequence[str]) -> tuple[Wide, Repair]:
    """Without unit 3 of the first layer, in what reads it too."""
    kept = tuple(unit for unit in range(12) if unit != 3)
    changed = copy.deepcopy(model).eval()
    changed.first.weight, changed.first.bias = (nn.Parameter(t[list(kept)]) for t in changed.first.parameters())
    changed.first.out_features = 11
    layers = [Counterpart("first", "first", kept, tuple(range(8)))]
    for name in readers:
        reader = changed.get_submodule(name)
        inputs = None
        if isinstance(reader, nn.Linear) and reader.in_features == 12:
            inputs = kept
            with torch.no_grad():
                cut = reader.weight[:, list(kept)].clone()
            if "weight" in reader._parameters:
                reader.weight = nn.Parameter(cut)
                reader.in_features = 11
        layers.append(Counterpart(name, name, tuple(range(reader.out_features)), inputs))
    declared = Counterparts(copy.deepcopy(model).eval(), tuple(layers))
    return changed, apply_and_repair(model, changed, declared, x)


def test_a_reader_that_is_called_once_is_refitted() -> None:
    model = Wide(lambda own, x: own.reader(x), reader=nn.Linear(12, 4))
    found = narrowed_by_hand(model, torch.randn(VECTORS), ["reader"])[1]
    assert [fit.layer for fit in found.fits] == ["reader"]
    assert found.error < 3e-3 * found.before


def test_weights_that_are_tied_are_left_as_they_are() -> None:
    model = Wide(lambda own, x: own.other(own.reader(x)), reader=nn.Linear(12, 4), other=nn.Linear(4, 12, bias=False))
    kept = [u for u in range(12) if u != 3]
    changed = copy.deepcopy(model).eval()
    with torch.no_grad():
        changed.first, changed.reader, changed.other = nn.Linear(8, 11), nn.Linear(11, 4), nn.Linear(4, 11)
        changed.first.weight.copy_(model.first.weight[kept])
        changed.first.bias.copy_(model.first.bias[kept])
        changed.reader.weight.copy_(model.reader.weight[:, kept])
    changed.tied = nn.Linear(11, 4)
    changed.tied.weight = changed.reader.weight
    layers = (Counterpart("first", "first", tuple(kept)), Counterpart("reader", "reader", tuple(range(4)), tuple(kept)))
    before = {name: value.clone() for name, value in changed.state_dict().items()}
    model.behind = changed.behind = lambda own, x: own.reader(x)
    found = apply_and_repair(model, changed, Counterparts(model.eval(), layers), torch.randn(VECTORS))
    assert found.fits == ()
    assert all(torch.equal(value, before[name]) for name, value in changed.state_dict().items())


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


@pytest.mark.parametrize("make", [Scaled, lambda i, o: nn.utils.parametrizations.weight_norm(nn.Linear(i, o))])
def test_a_layer_that_computes_otherwise_is_left_as_it_is(make: Callable[[int, int], nn.Linear]) -> None:
    model = Wide(
        lambda own, x: own.last(own.reader(own.middle(x))),
        middle=nn.Linear(12, 12),
        reader=make(12, 4),
        last=nn.Linear(4, 4),
    )
    found = narrowed_by_hand(model, torch.randn(VECTORS), ["middle", "last"])[1]
    whole = run_original(model.eval(), torch.randn(VECTORS), N)
    assert len(whole.every_call("middle")) == 1
    assert whole.every_call("reader") == []
    assert found.error < 3e-3 * found.before


def test_rows_that_cannot_be_told_apart_by_example_leave_a_layer_as_it_is() -> None:
    model = Wide(
        lambda own, x: own.reader(x[:-1]).sum(0).expand(len(x), -1) + own.last(x),
        reader=nn.Linear(12, 4),
        last=nn.Linear(12, 4),
    )
    changed, found = narrowed_by_hand(model, torch.randn(VECTORS), ["reader", "last"])
    assert [fit.layer for fit in found.fits] in ([], ["last"])
    assert torch.equal(changed.reader.weight, model.reader.weight[:, [u for u in range(12) if u != 3]])


# -- data that say nothing, or nonsense --------------------------------------------------------------------------------


def broken_by(value: float) -> tuple[nn.Module, nn.Module, Counterparts, Tensor]:
    """What is as it was but for one number of the inputs."""
    model, x, removals = doubled("convolutions with norms")
    x[3, 1, 2, 2] = value
    context = context_of(torch.randn(IMAGES))
    declared = narrowed_counterparts(model, removals, context)
    return model, narrowing.apply(copy.deepcopy(model), {"remove": removals}, context), declared, x


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("refits", [True, False])
def test_where_the_outputs_are_no_numbers_the_model_ends_as_it_was(value: float, refits: bool) -> None:
    model, changed, declared, x = broken_by(value)
    before = copy.deepcopy(changed)
    found = apply_and_repair(model, changed, declared, x, refits=refits)
    assert found.fits == ()
    assert same_state(changed, before)


def test_norms_end_as_they_were_too_where_only_what_follows_them_is_no_number() -> None:
    model, x, removals = doubled("convolutions with norms")
    declared = narrowed_counterparts(model, removals, context_of(x))
    changed = narrowing.apply(copy.deepcopy(model), {"remove": removals}, context_of(x))
    with torch.no_grad():
        changed[7].bias[0] = math.nan
    before = changed[4].running_var.clone()
    found = apply_and_repair(model, changed, declared, x)
    assert found.fits == ()
    assert torch.equal(changed[4].running_var, before)


def test_a_refit_that_makes_the_outputs_no_numbers_is_taken_back() -> None:
    """Behind the last layer lies a function with a pole, which the refitted layer hits and the other does not."""
    model = Wide(lambda own, x: own.reader(x), reader=nn.Linear(12, 4))
    x = torch.randn(VECTORS)

    def hits(own: Wide, wide: Tensor) -> Tensor:
        y = own.reader(wide)
        moved = not torch.equal(own.reader.weight.detach(), kept_weight)
        return y * math.nan if moved and wide.shape[1] == 11 else y

    kept_weight = model.reader.weight.detach()[:, [u for u in range(12) if u != 3]]
    model.behind = hits
    changed, found = narrowed_by_hand(model, x, ["reader"])
    assert found.fits == ()
    assert torch.equal(changed.reader.weight, kept_weight)


@pytest.mark.parametrize("refits", [True, False])
def test_channels_that_are_constant_are_no_harm(refits: bool) -> None:
    """Dead ones, before a norm and after; ones that are dead in the changed model alone."""
    model, x = lively(plain()), torch.randn(IMAGES)
    with torch.no_grad():
        model[0].weight[[1, 2]] = 0  # what the norm reads
        model[1].bias[3], model[1].weight[3] = -9, 0.1  # what it gives, behind the activation
        model[3].weight[0] = 0
        model[3].weight[0, 5] = 1
    context = context_of(x)
    declared = narrowed_counterparts(model, {"0": [2, 5]}, context)
    changed = narrowing.apply(copy.deepcopy(model), {"remove": {"0": [2, 5]}}, context)
    found = apply_and_repair(model, changed, declared, x, refits=refits)
    state = changed.state_dict().values()
    assert all(bool(torch.isfinite(value).all()) for value in state)
    assert found.error <= found.before
    if not refits:
        assert float(changed[4].running_var[0]) == float(model[4].running_var[0]), "that of a channel that is dead now"
    assert float(output(changed, torch.randn(IMAGES)).abs().max()) < 100


def test_units_that_nothing_reads_are_no_harm() -> None:
    model = Wide(
        lambda own, x: own.head(x.mean(1, keepdim=True) * 0 + own.other(x[:, :1] * 0 + 1)), other=nn.Linear(1, 4)
    )
    model.head = nn.Linear(4, 3)
    changed, found = narrowed_by_hand(model, torch.randn(VECTORS), [])
    assert found.fits == ()
    assert changed.first.out_features == 11


def test_inputs_that_are_shorter_than_a_window_are_no_harm() -> None:
    """A window of five over two places and their padding."""
    model = nn.Sequential(nn.Conv1d(3, 6, 1), nn.Tanh(), nn.Conv1d(6, 4, 5, padding=2)).eval()
    double(model[0], 1, 4)
    found = narrowed(model, torch.randn(N, 3, 2), {"0": [4]})[1]
    assert found.error < 3e-3 * found.before


def test_inputs_that_are_all_alike_are_no_harm() -> None:
    model, _, removals = doubled("beside a stream")
    changed, found = narrowed(model, torch.ones(IMAGES), removals)
    assert all(bool(torch.isfinite(value).all()) for value in changed.state_dict().values())
    assert math.isfinite(found.before)


def test_what_ends_the_work_ends_the_repair() -> None:
    model, x, removals = doubled("beside a stream")
    context = context_of(x)
    declared = narrowed_counterparts(model, removals, context)
    changed = narrowing.apply(copy.deepcopy(model), {"remove": removals}, context)

    def stop() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(changed, declared, run_original(declared.whole, x, N), x, stop)
    assert not any(module._forward_pre_hooks for module in changed.modules())


def test_layers_that_there_is_no_time_for_stay_as_they_are_and_norms_are_recalibrated_all_the_same() -> None:
    model, x, removals = doubled("beside a stream")
    context = context_of(x)
    declared = narrowed_counterparts(model, removals, context)
    changed, alone = (narrowing.apply(copy.deepcopy(model), {"remove": removals}, context) for _ in range(2))
    original = run_original(declared.whole, x, N)
    found = repair(changed, declared, original, x, lambda: False)
    repair(alone, declared, original, x, refits=False)
    assert found.fits == ()
    assert same_state(changed, alone)


class InPlace(nn.Module):
    """What layers are given and give is changed in place behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.rnn = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        states = self.rnn(x)[0]
        x += 3 * states
        return states.mul_(0).add(x)


def test_what_a_recurrent_layer_was_given_and_gave_is_kept_as_it_was_then() -> None:
    model, x = InPlace().eval(), torch.randn(N, 4, 5)
    (found,) = run_original(model, x, N).every_call("rnn")
    assert isinstance(found, GaveStates)
    with torch.no_grad():
        given = model.first(x)
        torch.testing.assert_close(found.inputs, given)
        torch.testing.assert_close(found.began[0], model.rnn(given)[0][:, :-1])


@pytest.mark.parametrize(("between", "norms"), [(nn.Identity(), {"2"}), (nn.ReLU(inplace=True), set())], ids=str)
def test_a_norm_behind_an_activation_in_place_takes_no_intercept(between: nn.Module, norms: set[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), between, nn.BatchNorm2d(4)).eval()
    assert run_original(model, torch.randn(IMAGES), N).norms_behind("0") == norms

"""A removed unit that a kept one stands in for is made up for, whatever the network; what is not understood is left.

In each network units are made doubles of others before they go, so that a repair can be all but exact.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.repair.declared import check_declared
from autocompress.candidate.repair.original import GaveStates, run_original
from autocompress.candidate.repair.repair import Repair, repair
from autocompress.data import call, primary
from autocompress.plugin.contract import Counterpart, Counterparts
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.attention_layers import HeadAttention
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.counterparts import (
    factored_counterparts,
    narrowed_counterparts,
    shortened_counterparts,
)
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.shrinking.recurrent_layers import GATES, RecurrentLayer
from autocompress_plugins.weights.factorize import Factorize

N = 251  # examples
IMAGES, SERIES, VECTORS = (N, 3, 6, 6), (N, 7, 5), (N, 8)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def context_of(x: Tensor) -> Any:
    memory: dict[Any, Any] = {}

    def once(key: str, compute: Callable[[], Any]) -> Any:
        if key not in memory:
            memory[key] = compute()
        return memory[key]

    return SimpleNamespace(example_inputs=x[:2], once=once)


def lively(model: nn.Module) -> nn.Module:
    """With batch norms that have seen data, and shifts that differ."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for values, low in ((module.running_mean, -0.5), (module.running_var, 0.5)):
                assert isinstance(values, Tensor)
                values.uniform_(low, low + 1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def double(module: nn.Module, kept: int, gone: int) -> None:
    """Unit ``gone`` gives what ``kept`` gives: a channel, a head, a hidden unit of each direction."""
    with torch.no_grad():
        if isinstance(module, HeadAttention):
            width = module.num_heads * module.head_size
            one, other = (
                [part * width + column for part in range(3) for column in module.head_columns([head])]
                for head in (kept, gone)
            )
            tensors: Sequence[tuple[Tensor, Any, Any]] = [(t, one, other) for t in module.qkv.parameters()]
        elif isinstance(module, RecurrentLayer):
            size, gates = int(module.core.hidden_size), GATES[type(module.core)]
            one, other = ([gate * size + unit for gate in range(gates)] for unit in (kept, gone))
            tensors = [(t, one, other) for t in module.core.parameters()]
        else:
            tensors = [(t, kept, gone) for t in module.state_dict().values() if t.dim()]
        for tensor, source, target in tensors:
            tensor[target] = tensor[source]


def apply_and_repair(
    model: nn.Module, changed: nn.Module, declared: Counterparts, x: Tensor, **settings: Any
) -> Repair:
    check_declared(declared, changed.eval())
    return repair(changed, declared, run_original(declared.whole, x, len(x)), x, **settings)


def narrowed(model: nn.Module, x: Tensor, removals: Mapping[str, Sequence[int]]) -> tuple[nn.Module, Repair]:
    context = context_of(x)
    declared = narrowed_counterparts(model, removals, context)
    changed = narrowing.apply(copy.deepcopy(model), {"remove": removals}, context)
    return changed, apply_and_repair(model, changed, declared, x)


def output(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return primary(call(model.eval(), x))


def same_state(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# -- networks ----------------------------------------------------------------------------------------------------------


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 4),
    )


class Residual(nn.Module):
    """Two blocks beside a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
            for _ in range(2)
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.relu().mean((2, 3)))


class Joined(nn.Module):
    """Two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 6, 3)
        self.norm, self.last, self.head = nn.BatchNorm2d(12), nn.Conv2d(12, 5, 3), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.one(x), self.other(x).tanh()], 1)
        return self.head(self.last(self.norm(x).relu()).mean((2, 3)))


def separable() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, groups=8, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 4, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *, batch_first: bool = True, directions: int = 2) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.rnn: nn.Module = kind(5, 6, 2, batch_first=batch_first, bidirectional=directions == 2)
        self.head = nn.Linear(6 * directions, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(x if self.batch_first else x.transpose(0, 1))[0]
        return self.head(y.mean(1 if self.batch_first else 0))


class Encoder(nn.Module):
    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 16, dropout=0.0, batch_first=batch_first)
        self.first, self.batch_first = nn.Linear(5, 8), batch_first
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.encoder(x if self.batch_first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.batch_first else 0))


# Where each lies: the network, its data, the modules whose unit is doubled, the root of the group, units kept and gone.
BLOCK, ATTENTION = "rnn.layers.1", "encoder.layers.0.self_attn"
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Sequence[str], str, Sequence[int], Sequence[int]]] = {
    "convolutions with norms": (plain, IMAGES, ["0", "1"], "0", [2], [5]),
    "into a flattened image": (plain, IMAGES, ["3", "4"], "3", [1], [0]),
    "a residual stream": (Residual, IMAGES, ["stem", "blocks.0.3", "blocks.1.3"], "stem", [0], [6]),
    "beside a stream": (Residual, IMAGES, ["blocks.1.0", "blocks.1.1"], "blocks.1.0", [3], [4]),
    "side by side": (Joined, IMAGES, ["one", "norm"], "one", [1], [5]),
    "depthwise separable": (separable, IMAGES, ["0", "1", "3", "4"], "0", [1], [7]),
    "lstm, first layer": (lambda: Recurrent(nn.LSTM), SERIES, ["rnn.layers.0"], "rnn.layers.0", [1], [4, 10]),
    "lstm, last layer": (lambda: Recurrent(nn.LSTM), SERIES, [BLOCK], BLOCK, [0], [3, 9]),
    "lstm, time first": (lambda: Recurrent(nn.LSTM, batch_first=False), SERIES, [BLOCK], BLOCK, [0], [3, 9]),
    "lstm, one direction": (lambda: Recurrent(nn.LSTM, directions=1), SERIES, [BLOCK], BLOCK, [5], [2]),
    "gru": (lambda: Recurrent(nn.GRU), SERIES, ["rnn.layers.0"], "rnn.layers.0", [5], [2, 8]),
    "gru, last layer, time first": (
        lambda: Recurrent(nn.GRU, batch_first=False, directions=1), SERIES, [BLOCK], BLOCK, [5], [2]
    ),
    "rnn": (lambda: Recurrent(nn.RNN, directions=1), SERIES, ["rnn.layers.0"], "rnn.layers.0", [5], [2]),
    "heads": (Encoder, SERIES, [ATTENTION], ATTENTION, [1], [3]),
    "heads, time first": (lambda: Encoder(batch_first=False), SERIES, [ATTENTION], ATTENTION, [1], [3]),
    "mlp": (Encoder, SERIES, ["encoder.layers.1.linear1"], "encoder.layers.1.linear1", [4], [9]),
}  # fmt: skip


def doubled(name: str) -> tuple[nn.Module, Tensor, dict[str, Sequence[int]]]:
    """In the form in which units can be removed."""
    make, shape, modules, root, kept, gone = CASES[name]
    model, x = lively(make()), torch.randn(shape)
    assert prunable(model, x[:2]) == {}
    for module in modules:
        double(model.get_submodule(module), kept[0], gone[0])
    return model, x, {root: gone}


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
    """The block that goes is a linear map of the stream: what reads the stream takes it over."""
    model, x = lively(Residual()), torch.randn(IMAGES)
    with torch.no_grad():
        model.blocks[0] = nn.Sequential(nn.Conv2d(8, 8, 1))
        model.blocks[1] = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1))
    declared = shortened_counterparts(model, ["blocks.0"])
    assert {own.layer for own in declared.layers} == {"stem", "blocks.1.0", "blocks.1.2", "head"}
    changed = without(copy.deepcopy(model), ["blocks.0"])
    found = apply_and_repair(model, changed, declared, x)
    assert found.error < 0.7 * found.before
    fits = {fit.layer: fit for fit in found.fits}
    assert fits["blocks.1.0"].after < 1e-4 * fits["blocks.1.0"].before
    assert torch.equal(changed.stem.weight, model.stem.weight)


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


def test_a_layer_that_is_called_twice_is_left_as_it_is() -> None:
    model = Wide(lambda own, x: own.reader(x) + own.reader(x.square()), reader=nn.Linear(12, 4))
    changed, found = narrowed_by_hand(model, torch.randn(VECTORS), ["reader"])
    assert found.fits == ()
    assert torch.equal(changed.reader.weight, model.reader.weight[:, [u for u in range(12) if u != 3]])
    run = run_original(model.eval(), torch.randn(VECTORS), N)
    assert (run.calls["reader"], run.once("reader")) == (2, None)
    assert run.once("first") is not None


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
    assert whole.once("middle") is not None
    assert whole.once("reader") is None
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
    found = run_original(model, x, N).once("rnn")
    assert isinstance(found, GaveStates)
    with torch.no_grad():
        given = model.first(x)
        torch.testing.assert_close(found.inputs, given)
        torch.testing.assert_close(found.states, model.rnn(given)[0])


@pytest.mark.parametrize(("between", "norms"), [(nn.Identity(), {"0": "2"}), (nn.ReLU(inplace=True), {})], ids=str)
def test_a_norm_behind_an_activation_in_place_takes_no_intercept(between: nn.Module, norms: dict[str, str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), between, nn.BatchNorm2d(4)).eval()
    assert run_original(model, torch.randn(IMAGES), N).norms == norms

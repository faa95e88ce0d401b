"""What is declared of each technique's layers is true: of every kind of layer, which channels it still has."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.repair.declared import check_declared
from autocompress.plugin.contract import Context, Counterpart, Counterparts
from autocompress.testing import tasks
from autocompress.testing.declared_layers import with_other_weights
from autocompress_plugins.model_runs import output
from autocompress_plugins.pruning.drop_blocks import DropBlocks
from autocompress_plugins.shrinking import narrowing
from autocompress_plugins.shrinking.block_removal import without
from autocompress_plugins.shrinking.counterparts import (
    factored_counterparts,
    narrowed_counterparts,
    shortened_counterparts,
)
from autocompress_plugins.shrinking.prunable import prunable
from autocompress_plugins.weights.factorize import Factorize

MakeContext = Callable[..., Context]
IMAGES = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def layers(declared: Counterparts) -> dict[str, Counterpart]:
    found = {own.layer: own for own in declared.layers}
    assert len(found) == len(declared.layers)
    return found


def left(width: int, *gone: int) -> tuple[int, ...]:
    return tuple(i for i in range(width) if i not in gone)


def narrowed(
    model: nn.Module, removals: Mapping[str, Sequence[int]], context: Context
) -> tuple[nn.Module, Counterparts]:
    """The changed model and what is declared of it, which is looked at."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    declared = narrowed_counterparts(model, removals, context)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(
        output(declared.whole, context.example_inputs), output(model, context.example_inputs), atol=1e-5, rtol=1e-4
    )
    changed = narrowing.apply(copy.deepcopy(model), {"remove": removals}, context)
    check_declared(declared, changed)
    assert list(with_other_weights(declared, changed)) == []
    return changed, declared


class Layered(nn.Module):
    """A stream, a depthwise convolution, norms, and a flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.deep, self.point = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.last, self.head = nn.Conv2d(8, 4, 3, stride=2), nn.Linear(4 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.point(self.deep(x))
        return self.head(self.last(x).flatten(1))


def test_of_convolutions_and_what_reads_them(make_context: MakeContext) -> None:
    model = Layered().eval()
    _, declared = narrowed(model, {"stem": [1, 6], "last": [2]}, make_context(model, IMAGES))
    stream, last = left(8, 1, 6), left(4, 2)
    assert layers(declared) == {
        "stem": Counterpart("stem", "stem", stream, left(3)),
        "norm": Counterpart("norm", "norm", stream, None),
        "deep": Counterpart("deep", "deep", stream, stream),
        "point": Counterpart("point", "point", stream, stream),
        "last": Counterpart("last", "last", last, stream),
        "head": Counterpart("head", "head", left(2), left(16, 8, 9, 10, 11)),
    }


def test_of_nothing_removed_all_is_left(make_context: MakeContext) -> None:
    model = Layered().eval()
    _, declared = narrowed(model, {}, make_context(model, IMAGES))
    assert layers(declared)["head"] == Counterpart("head", "head", left(2), left(16))
    assert all(own.layer == own.original for own in declared.layers)


def test_of_recurrent_layers_both_directions(lstm: Context) -> None:
    model = lstm.task.copy_of_model()
    changed, declared = narrowed(model, {"rnn.layers.0": [2, 24, 25, 7]}, lstm)
    found = layers(declared)
    first, second = found["rnn.layers.0.core"], found["rnn.layers.1.core"]
    kept = left(48, 2, 24, 25, 7)
    assert (first.outputs, first.inputs) == (kept, left(6))
    assert (second.outputs, second.inputs) == (left(48), kept)
    assert found["head"].inputs == left(48)
    rows = [gate * 24 + unit for gate in range(4) for unit in kept if unit < 24]
    reverse = [gate * 24 + unit - 24 for gate in range(4) for unit in kept if unit >= 24]
    whole = declared.whole.rnn.layers[0].core
    core = changed.rnn.layers[0].core
    assert torch.equal(core.weight_ih_l0, whole.weight_ih_l0[rows])
    assert torch.equal(core.weight_ih_l0_reverse, whole.weight_ih_l0_reverse[reverse])


def test_of_heads_and_what_reads_them(transformer: Context) -> None:
    """Of 4 heads of 8 columns one goes, in the query, the key and the value."""
    model = transformer.task.copy_of_model()
    _, declared = narrowed(model, {"blocks.0.attention": [1]}, transformer)
    found, head = layers(declared), tuple(range(8, 16))
    rows = left(96, *(part * 32 + column for part in range(3) for column in head))
    assert found["blocks.0.attention.qkv"].outputs == rows
    assert found["blocks.0.attention.qkv"].inputs == left(32)
    assert found["blocks.0.attention.out"].inputs == left(32, *head)
    assert found["blocks.0.attention.out"].outputs == left(32)
    assert found["blocks.1.attention.qkv"].outputs == left(96)


def test_of_a_width_that_an_embedding_and_a_norm_share(make_context: MakeContext) -> None:
    model = nn.Sequential(nn.Embedding(16, 6), nn.LayerNorm(6), nn.Linear(6, 4)).eval()
    _, declared = narrowed(model, {"0": [0, 5]}, make_context(model, torch.randint(16, (8, 5))))
    kept = left(6, 0, 5)
    assert layers(declared) == {
        "0": Counterpart("0", "0", kept, None),
        "1": Counterpart("1", "1", kept, None),
        "2": Counterpart("2", "2", left(4), kept),
    }


@pytest.mark.parametrize("make", tasks.ALL)
def test_of_every_strategy_that_drops_blocks(make: Callable[[], Any], request: pytest.FixtureRequest) -> None:
    context: Context = request.getfixturevalue(make.__name__)
    strategy, model = DropBlocks(), context.task.copy_of_model()
    (count,) = strategy.parameters(context)
    plan = strategy.plan(model, {"count": count.choices[-1]}, context)
    declared = strategy.counterparts(model, plan, context)
    changed = strategy.apply(context.task.copy_of_model(), plan, context)
    check_declared(declared, changed)
    assert list(with_other_weights(declared, changed)) == []
    assert "head" in layers(declared)
    assert torch.equal(output(declared.whole, context.example_inputs), output(model, context.example_inputs))


class Stacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(4, 4, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(1))


def test_recurrent_layers_that_are_left_are_called_otherwise() -> None:
    """Each is given other values: a wrong name would be seen in the weights."""
    model, x = Stacked().eval(), torch.randn(3, 5, 4)
    assert prunable(model, x) == {}
    declared = shortened_counterparts(model, ["rnn:0", "rnn:2"])
    changed = without(copy.deepcopy(model), ["rnn:0", "rnn:2"])
    check_declared(declared, changed)
    stands = {own.layer: own.original for own in declared.layers}
    assert stands == {
        "rnn.layers.0.core": "rnn.layers.1.core",
        "rnn.layers.1.core": "rnn.layers.3.core",
        "head": "head",
    }
    for layer, original in stands.items():
        one, other = changed.get_submodule(layer).state_dict(), declared.whole.get_submodule(original).state_dict()
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_of_recurrent_layers_that_all_go_none_is_left() -> None:
    model, x = Stacked().eval(), torch.randn(3, 5, 4)
    assert prunable(model, x) == {}
    assert [own.layer for own in shortened_counterparts(model, [f"rnn:{n}" for n in range(4)]).layers] == ["head"]


def test_a_recurrent_module_that_is_no_chain_is_not_named() -> None:
    model = Stacked().eval()
    declared = shortened_counterparts(model, ["rnn:1"])
    assert [own.layer for own in declared.layers] == ["head"]
    check_declared(declared, without(copy.deepcopy(model), ["rnn:1"]))


def test_a_dropped_block_goes_with_what_it_holds_and_no_namesake() -> None:
    model = nn.ModuleDict({"block": nn.Sequential(nn.Linear(2, 2)), "block2": nn.Linear(2, 2)}).eval()
    assert [own.layer for own in shortened_counterparts(model, ["block"]).layers] == ["block2"]


def test_the_second_of_two_thin_layers_stands_for_the_one(cnn: Context) -> None:
    strategy, model = Factorize(), cnn.task.copy_of_model()
    plan = strategy.plan(model, {"keep": 0.5, "rule": "ratio"}, cnn)
    declared = strategy.counterparts(model, plan, cnn)
    changed = strategy.apply(cnn.task.copy_of_model(), plan, cnn)
    check_declared(declared, changed)
    assert list(with_other_weights(declared, changed)) == []
    found = layers(declared)
    for name in plan["ranks"]:
        assert found[f"{name}.1"].original == name
        assert found[f"{name}.1"].inputs is None
        assert name not in found
        assert f"{name}.0" not in found
    assert any(own.layer == own.original and own.inputs is not None for own in declared.layers)


def test_a_layer_that_begins_with_the_name_of_a_factorized_one_is_another() -> None:
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "ab": nn.Linear(8, 8)}).eval()
    assert set(layers(factored_counterparts(model, ["a"]))) == {"a.1", "ab"}


def test_the_whole_is_a_model_of_its_own(make_context: MakeContext) -> None:
    """What is done to the changed model, or to the one before, does not reach it."""
    model = Layered().eval()
    for declared in (
        narrowed_counterparts(model, {"stem": [0]}, make_context(model, IMAGES)),
        shortened_counterparts(model, ["deep"]),
        factored_counterparts(model, ["head"]),
    ):
        shared = {id(value) for value in declared.whole.parameters()} & {id(value) for value in model.parameters()}
        assert shared == set()
        assert not declared.whole.training

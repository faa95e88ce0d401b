"""Dropping blocks: which ones can go, that the least harmful go first, and that the rest is as it was."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.count import count
from autocompress.candidate.export import check, export
from autocompress.candidate.reading import read_task
from autocompress.data import call, feed_of, input_names, primary
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress.profile import HardwareProfile
from autocompress.task import Inputs, Task
from autocompress_plugins.distillation.student import Student
from autocompress_plugins.pruning import training_loss
from autocompress_plugins.pruning.block_removal import without
from autocompress_plugins.pruning.blocks import Droppable, droppable
from autocompress_plugins.pruning.drop_blocks import DropBlocks
from autocompress_plugins.pruning.prunable import prunable
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime

MakeContext = Callable[[nn.Module, Inputs], Context]
IMAGES = torch.randn(64, 4, 6, 6, generator=torch.Generator().manual_seed(5))
WORDS = torch.randint(0, 9, (64, 7), generator=torch.Generator().manual_seed(5))


class Residual(nn.Module):
    """x + scale * body(x): the scale says how much the block matters."""

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)),
        )
        self.scale, self.same = scale, inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x) if self.same else self.body(x)


class ResNet(nn.Module):
    def __init__(self, *scales: float) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 4, 3, padding=1)
        self.body = nn.Sequential(*(Residual(4, 4, scale) for scale in scales), Residual(4, 6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Stack(nn.Module):
    """A recurrent stack over words, of 8 features each."""

    def __init__(self, kind: type[nn.RNNBase], width: int, layers: int, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.rnn = kind(8, width, layers, **options)
        self.head = nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0].mean(1 if self.rnn.batch_first else 0))


class Encoder(nn.Module):
    """nn.TransformerEncoder, with a padding mask, called by name."""

    def __init__(self, nested: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(8), enable_nested_tensor=nested)
        self.head = nn.Linear(8, 4)

    def forward(self, words: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(words), src_key_padding_mask=padding).mean(1))


def seeded(make: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return make(*args, **options).eval()


def outputs(model: nn.Module, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return primary(call(model.eval(), inputs))


@pytest.fixture
def make_context(tmp_path: Path, fake_profile: HardwareProfile) -> MakeContext:
    """A task whose targets are the model's own outputs: a block does the harm that it changes them by."""

    def make(model: nn.Module, inputs: Inputs) -> Context:
        data = (inputs, outputs(model, inputs))
        task = Task(name="made", model=model, train=data, val=data, loss="mse", metric=lambda one, other: 0.0)
        return read_task(task, fake_profile, OnnxRuntime(), tmp_path / "reference.onnx", 0).context

    return make


def dropped(context: Context, count: int) -> tuple[nn.Module, list[str]]:
    """As the pipeline does: the plan goes through JSON, and is applied to a copy."""
    plan = json.loads(json.dumps(DropBlocks().plan(context.model, {"count": count}, context)))
    return DropBlocks().apply(copy.deepcopy(context.model), plan, context), plan["drop"]


def names(model: nn.Module, inputs: Inputs) -> tuple[str, ...]:
    return droppable(model, inputs).names


def test_blocks_that_keep_the_shape_can_go_and_no_part_of_them_alone():
    model = seeded(ResNet, 1.0, 1.0)
    assert names(model, IMAGES[:2]) == ("body.0", "body.1", "body.2.body.0"), "of the last block only what keeps it"


def test_least_harmful_go_first_and_the_others_stay_as_they_are(make_context: MakeContext):
    context = make_context(seeded(ResNet, 2.0, 0.01, 1.0, 0.1), IMAGES)
    model, gone = dropped(context, 2)
    assert gone == ["body.1", "body.3"]
    before, after = context.model.state_dict(), model.state_dict()
    assert after.keys() == {name for name in before if not name.startswith(("body.1.", "body.3."))}
    assert all(torch.equal(after[name], before[name]) for name in after)
    by_hand = copy.deepcopy(context.model)
    by_hand.body[1].scale = by_hand.body[3].scale = 0.0
    assert torch.allclose(outputs(model, IMAGES), outputs(by_hand, IMAGES), atol=1e-6)


class Shift(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.line = nn.Linear(6, 6)
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)
        with torch.no_grad():
            self.line.bias[0] = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.line(x)


@pytest.fixture
def shifts(make_context: MakeContext) -> Context:
    """Of the last two blocks, the one that is needed more makes up for the first one's absence when it goes."""
    blocks = nn.Sequential(Shift(1.0), Shift(2.0), Shift(-2.1))
    return make_context(seeded(nn.Sequential, nn.Linear(5, 6), blocks, nn.Linear(6, 4)), torch.randn(64, 5))


def test_harm_is_measured_again_after_each_drop(shifts: Context):
    assert DropBlocks().plan(shifts.model, {"count": 2}, shifts)["drop"] == ["1.0", "1.2"]


@pytest.mark.parametrize(("seconds_each", "examples"), [(1e-4, 256), (0.01, 64), (0.03, 16), (1.0, 0)])
def test_the_slower_a_model_the_fewer_examples_its_loss_is_measured_on(seconds_each: float, examples: int):
    assert training_loss.affordable(seconds_each, evaluations=10) == examples


def test_of_a_slow_model_harm_is_measured_once_on_fewer_examples(shifts: Context, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    shifts.model.register_forward_hook(lambda model, inputs, output: sizes.append(len(output)))
    DropBlocks().plan(shifts.model, {"count": 2}, shifts)
    assert max(sizes) == 64
    sizes.clear()
    monkeypatch.setattr(training_loss, "LOSSES_S", 0.0)
    slow = replace(shifts, memory={})
    assert DropBlocks().plan(slow.model, {"count": 2}, slow)["drop"] == ["1.0", "1.1"], "least harmful alone"
    assert max(sizes) == training_loss.LOSS_EXAMPLES[-1]


def test_harm_is_measured_once_for_all_strategies_that_drop_blocks(shifts: Context):
    sizes: list[int] = []
    shifts.model.register_forward_hook(lambda model, inputs, output: sizes.append(len(output)))
    dropped = DropBlocks().plan(shifts.model, {"count": 1}, shifts)["drop"]
    assert max(sizes) == 64
    sizes.clear()
    student = Student().plan(shifts.model, {"width": 0.5, "dropped": 1, "weights": "inherited"}, shifts)
    assert student["drop"] == dropped
    assert max(sizes, default=0) < 64


def test_sensitivity_is_the_harm_of_each_block_alone(make_context: MakeContext):
    context = make_context(seeded(ResNet, 2.0, 0.01, 1.0), IMAGES)
    found = {part.group: part.loss for part in DropBlocks().sensitivity(context)}
    assert list(found)[1:] == ["body.0", "body.2", "body.1"], "most sensitive first"
    by_hand = copy.deepcopy(context.model)
    by_hand.body[0].scale = 0.0
    rise = nn.functional.mse_loss(outputs(by_hand, IMAGES), outputs(context.model, IMAGES))
    assert found["body.0"] == pytest.approx(rise.item(), rel=1e-4)


def test_a_block_without_which_the_loss_is_no_number_is_the_most_sensitive(make_context: MakeContext):
    context = make_context(seeded(ResNet, 2.0, 0.01, 1.0), IMAGES)

    def unbounded(out: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(out, targets)
        return torch.where(loss < 1e-3, loss, torch.inf)

    context = replace(context, task=replace(context.task, loss=unbounded))
    found = DropBlocks().sensitivity(context)
    assert found[-1].group == "body.1"
    assert all(part.loss > found[-1].loss for part in found[:-1])
    json.dumps([part.loss for part in found], allow_nan=False)
    assert DropBlocks().plan(context.model, {"count": 1}, context)["drop"] == ["body.1"]


def test_count_grows_by_one_block_at_a_time_up_to_all_but_one(make_context: MakeContext):
    context = make_context(seeded(ResNet, 2.0, 0.01, 1.0, 0.1), IMAGES)
    (parameter,) = DropBlocks().parameters(context)
    assert parameter.choices == (1, 2, 3, 4)
    assert parameter.by_strength
    plans = [dropped(context, count)[1] for count in parameter.choices]
    assert all(more[: len(less)] == less for less, more in pairwise(plans))


def test_file_is_cheaper_and_agrees(make_context: MakeContext, tmp_path: Path, fake_runtime: Any):
    context = make_context(seeded(ResNet, 1.0, 0.5), IMAGES)
    model, _ = dropped(context, 1)
    paths = [tmp_path / "before.onnx", tmp_path / "after.onnx"]
    for each, path in zip((context.model, model), paths, strict=True):
        export(each, IMAGES[:1], path, "torchscript")
    session = fake_runtime.open(paths[1], context.profile)
    check(session, [feed_of(IMAGES[:1], input_names(IMAGES))], model, [IMAGES[:1]])
    assert all(after < before for before, after in zip(count(paths[0]), count(paths[1]), strict=True))


# -- recurrent layers --------------------------------------------------------------------------------------------------

KINDS = [
    (nn.LSTM, {"batch_first": True}),
    (nn.LSTM, {"batch_first": True, "bidirectional": True, "proj_size": 3}),
    (nn.GRU, {"batch_first": True, "bidirectional": True, "bias": False}),
    (nn.RNN, {"batch_first": True, "nonlinearity": "relu", "dropout": 0.1}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_recurrent_layers_but_the_first_can_go(kind: type[nn.RNNBase], options: dict[str, Any]):
    model = seeded(Stack, kind, 5, 3, **options)
    outputs(model, WORDS)
    assert names(model, WORDS[:2]) == ("rnn:1", "rnn:2")


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_shorter_stack_computes_what_the_remaining_layers_do(kind: type[nn.RNNBase], options: dict[str, Any]):
    model = seeded(Stack, kind, 5, 4, **options)
    outputs(model, WORDS)
    state = torch.get_rng_state()
    shorter = without(copy.deepcopy(model), ["rnn:1"])
    assert torch.equal(torch.get_rng_state(), state)
    assert type(shorter.rnn) is kind
    assert shorter.rnn.num_layers == 3
    x = model.embed(WORDS)
    for layer in (0, 2, 3):
        width = (options.get("proj_size") or 5) * (2 if options.get("bidirectional") else 1)
        one = kind(8 if layer == 0 else width, 5, 1, **{**options, "dropout": 0.0}).eval()
        weights = {k: v for k, v in model.rnn.state_dict().items() if f"_l{layer}" in k}
        one.load_state_dict({k.replace(f"_l{layer}", "_l0"): v for k, v in weights.items()})
        x = one(x)[0]
    with torch.no_grad():
        assert torch.allclose(shorter.rnn(model.embed(WORDS))[0], x, atol=1e-6)


def test_layers_that_units_were_pruned_from_can_go_where_the_widths_agree():
    model = seeded(Stack, nn.LSTM, 6, 3, batch_first=True, bidirectional=True)
    outputs(model, WORDS)
    assert prunable(model, WORDS[:2]) == {}
    model.rnn.layers[1].remove_outputs([0, 6])
    model.rnn.layers[2].remove_inputs([0, 6])
    assert droppable(model, WORDS[:2]).names == ()
    model.rnn.layers[2].remove_outputs([1, 7])
    model.head.weight.data = model.head.weight.data[:, :10]
    model.head.in_features = 10
    assert droppable(model, WORDS[:2]).names == ("rnn:2",)
    bare = without(copy.deepcopy(model), ["rnn:2"])
    first, second, _ = model.rnn.layers
    expected = model.head(second(first(model.embed(WORDS))[0])[0].mean(1))
    assert torch.allclose(outputs(bare, WORDS), expected, atol=1e-6)


def test_last_layer_left_has_no_dropout_and_no_warning(recwarn: pytest.WarningsRecorder):
    model = seeded(Stack, nn.LSTM, 5, 2, dropout=0.3)
    recwarn.clear()
    assert without(model, ["rnn:1"]).rnn.dropout == 0
    assert not recwarn.list


class Chain(nn.Module):
    """Recurrent modules of one layer each; the second gives back the shape it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.layers = nn.ModuleList([nn.GRU(8, 5, batch_first=True), nn.GRU(5, 5, batch_first=True)])
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x.mean(1))


def test_recurrent_module_of_one_layer_goes_as_a_whole():
    model = seeded(Chain)
    assert droppable(model, WORDS[:2]) == Droppable(("layers.1:0",), {})
    bare = without(copy.deepcopy(model), ["layers.1:0"])
    expected = model.head(model.layers[0](model.embed(WORDS))[0].mean(1))
    assert torch.allclose(outputs(bare, WORDS), expected, atol=1e-6)


def test_recurrent_model_exports_shorter(make_context: MakeContext, tmp_path: Path, fake_runtime: Any):
    model = seeded(Stack, nn.LSTM, 5, 2, batch_first=True, bidirectional=True)
    outputs(model, WORDS)
    context = make_context(model, WORDS)
    assert DropBlocks().parameters(context)[0].choices == (1,)
    smaller, gone = dropped(context, 1)
    assert gone == ["rnn:1"]
    export(smaller, WORDS[:1], tmp_path / "after.onnx", "torchscript")
    session = fake_runtime.open(tmp_path / "after.onnx", context.profile)
    check(session, [feed_of(WORDS[:1], input_names(WORDS))], smaller, [WORDS[:1]])


class Stateful(nn.Module):
    """The number of layers is written into its code."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 5, 2, batch_first=True)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[1].transpose(0, 1).reshape(len(x), 10))


def test_layers_that_the_model_counts_on_are_left_alone_with_the_reason():
    found = droppable(seeded(Stateful), torch.randn(2, 6, 5))
    assert found.names == ()
    assert "breaks without it" in found.kept["rnn:1"]


# -- transformers ------------------------------------------------------------------------------------------------------


def test_transformer_layers_go_from_a_model_called_by_name(make_context: MakeContext):
    inputs = {"words": WORDS, "padding": torch.zeros(64, 7, dtype=torch.bool)}
    inputs["padding"][:, 5:] = True
    context = make_context(seeded(Encoder), inputs)
    found = droppable(context.model, context.example_inputs)
    assert found.names == ("encoder.layers.1", "encoder.layers.2")
    assert "self_attn" in found.kept["encoder.layers.0"], "nn.TransformerEncoder reads its first layer's attributes"
    model, gone = dropped(context, 1)
    by_hand = copy.deepcopy(context.model)
    del by_hand.encoder.layers[int(gone[0][-1])]
    assert torch.allclose(outputs(model, inputs), outputs(by_hand, inputs), atol=1e-6)
    model.train()
    call(model, inputs).sum().backward()


def test_inputs_as_a_tuple_packed_by_the_shortcut_for_inference(make_context: MakeContext):
    inputs = (WORDS, torch.arange(7).expand(64, 7) > 4)
    context = make_context(seeded(Encoder, nested=True), inputs)
    assert droppable(context.model, context.example_inputs).names == ("encoder.layers.1", "encoder.layers.2")
    assert DropBlocks().refuses(context) is None
    assert outputs(dropped(context, 1)[0], inputs).shape == (64, 4)


# -- when it does not apply --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 4)),
        lambda: nn.Sequential(nn.Sequential(nn.LayerNorm(6), nn.ReLU()), nn.Linear(6, 4)),
        lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 4)),
    ],
    ids=["single layers", "nothing with weights", "other shapes"],
)
def test_refused_where_there_is_no_block(make: Callable[[], nn.Module], make_context: MakeContext):
    context = make_context(seeded(make), torch.randn(64, 6))
    before = copy.deepcopy(context.model.state_dict())
    assert "no block" in DropBlocks().refuses(context)
    assert all(torch.equal(value, before[name]) for name, value in context.model.state_dict().items())


def test_module_that_holds_the_whole_network_is_no_block():
    whole = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
    assert droppable(seeded(lambda: nn.Sequential(whole, nn.Softmax(1))), torch.randn(2, 6)) == Droppable((), {})


def test_more_than_can_be_dropped_fails_with_the_names(make_context: MakeContext):
    context = make_context(seeded(ResNet, 1.0), IMAGES)
    with pytest.raises(CandidateFailed, match=r"3 blocks are to be dropped and only 2 can be: body.0, body.1.body.0"):
        DropBlocks().plan(context.model, {"count": 3}, context)
    bare = nn.Sequential(nn.Linear(6, 4))
    with pytest.raises(CandidateFailed, match="no block is left that can be dropped"):
        DropBlocks().plan(bare, {"count": 1}, make_context(bare, torch.randn(64, 6)))


def test_blocks_that_stay_are_named_with_the_reason_though_others_can_go(make_context: MakeContext):
    context = make_context(seeded(Encoder), {"words": WORDS, "padding": torch.zeros(64, 7, dtype=torch.bool)})
    assert DropBlocks().refuses(context) is None
    (name, reason), *others = DropBlocks().left_alone(context).items()
    assert name == "encoder.layers.0"
    assert "breaks without it" in reason
    assert not others


def test_plan_leaves_the_model_alone_and_is_always_the_same(make_context: MakeContext):
    context = make_context(seeded(ResNet, 1.0, 0.3, 0.1), IMAGES)
    before, state = copy.deepcopy(context.model.state_dict()), torch.get_rng_state()
    plans = [DropBlocks().plan(context.model, {"count": 2}, context) for _ in range(2)]
    assert plans[0] == plans[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert context.model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in context.model.state_dict().items())
    assert not any(module._forward_hooks for module in context.model.modules())


def test_looking_for_blocks_leaves_a_model_in_training_as_it_is():
    model = seeded(ResNet, 1.0).train()
    before = copy.deepcopy(model.state_dict())
    assert names(model, IMAGES[:2])
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

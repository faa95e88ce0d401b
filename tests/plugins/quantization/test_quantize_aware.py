"""Quantization-aware training: what is trained is what the int8 file computes, with the ranges that were learned."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.export import export
from autocompress.candidate.make import rewrite
from autocompress.candidate.reading import read_task
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.teacher import Teacher
from autocompress.candidate.train import Schedule, Trained, train
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Runtime, TrainHook
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, RecipeFile, Step
from autocompress.task import Task
from autocompress_plugins.quantization.activation_values import layer_inputs
from autocompress_plugins.quantization.fake_quantization import LearnedRange, fake_quantized_weight
from autocompress_plugins.quantization.quantize_aware import QuantizeAware, _learned_ranges, _range
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime
from tests.layouts import layout_of

NAME = QuantizeAware.name
Examples = Callable[[int, int], tuple[Tensor, Tensor]]


class Block(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(width, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu6(self.bn1(self.conv1(x)))))
        return F.relu(self.shortcut(x) + y)


class Residual(nn.Module):
    """(N, 1, 8, 8) -> (N, 4): pooling, clipped activations, shortcuts with and without a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, 16, 1))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.pool(self.stem(x))).mean((2, 3)))


class Plain(nn.Module):
    """(N, 1, 8, 8) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, 2, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn(self.conv1(x)))
        return self.head(F.relu(self.conv2(x)).mean((2, 3)))


def context_of(
    model: nn.Module,
    examples: tuple[Tensor, Tensor],
    folder: Path,
    batch: int = 1,
    runtime: Runtime = OnnxRuntime(),  # noqa: B008 - it keeps nothing
    outputs: Sequence[str] | None = None,
) -> Context:
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    task = Task("aware", model, examples, examples, outputs=outputs)
    return read_task(
        task,
        HardwareProfile(name="here", batch=batch),
        runtime,
        folder / "reference.onnx",
        0,
    ).context


def trained(
    context: Context,
    hooks: Mapping[str, TrainHook],
    examples: int = 1024,
    lr: float = 4e-3,
    arithmetic: Arithmetic = Arithmetic(),
    model: nn.Module | None = None,
) -> Trained:
    model = model or context.task.copy_of_model()
    stream = TrainStream(
        context.task, context.train, Teacher(context.task.copy_of_model(), arithmetic, context.layout), 0
    )
    schedule = Schedule(lr, 64, 0, examples)
    return train(model, list(hooks.items()), context.task.loss_fn, stream, schedule, arithmetic)


def aware(context: Context, starts_at: float = 0.0) -> TrainHook:
    return QuantizeAware().hook({"starts_at": starts_at}, context)


def exported(model: nn.Module, context: Context, folder: Path, exporter: str = "torchscript") -> Path:
    inputs = context.train.take(torch.arange(context.profile.batch)).inputs
    export(model, layout_of(model, inputs), inputs, folder / "float.onnx", exporter)
    return folder / "float.onnx"


def quantized(source: Path, context: Context, learned: Mapping[str, Any]) -> Path:
    target = source.with_name("int8.onnx" if learned else "calibrated.onnx")
    params = QuantizeAware().variants(context)[0]
    QuantizeAware().apply(source, target, params, replace(context, learned=learned))
    return target


def outputs(path: Path, x: Tensor, batch: int = 1) -> Tensor:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.tensor(np.concatenate([session.run(None, {name: part.numpy()})[0] for part in x.split(batch)]))


def as_trained(model: nn.Module, context: Context, learned: Mapping[str, Any], x: Tensor) -> Tensor:
    """What the model gives while it is fake-quantized with what was learned."""
    hook = aware(context)
    hook.resume(learned[NAME])
    wrapped = hook.wrap(copy.deepcopy(model))
    with torch.no_grad():
        return wrapped(x)


def computed_weights(model: nn.Module, context: Context) -> dict[str, Tensor]:
    """By layer, the weight that a call computes with while the model is fake-quantized."""
    wrapped, seen = aware(context).wrap(copy.deepcopy(model)), dict[str, Tensor]()
    for name, layer in wrapped.named_modules():
        layer.register_forward_pre_hook(lambda m, _, name=name: seen.update({name: getattr(m, "weight", None)}))
    with torch.no_grad():
        wrapped(context.example_inputs)
    return seen


def layer_scales(path: Path) -> list[tuple[float, int]]:
    """Scale and zero point of the input of every weighted node, sorted."""
    graph = onnx.load(str(path)).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    sources = [maker[node.input[0]] for node in weighted]
    assert sources
    assert all(node.op_type == "DequantizeLinear" for node in sources)
    return sorted((float(values[n.input[1]]), int(values[n.input[2]])) for n in sources)


def learned_scales(learned: Mapping[str, Any]) -> list[Any]:
    return [
        pytest.approx(own, rel=1e-6) for own in sorted((o["scale"], o["zero_point"]) for o in learned[NAME].values())
    ]


@pytest.fixture(scope="module")
def residual(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Trained]:
    context = context_of(Residual(), examples(512, 1), tmp_path_factory.mktemp("residual"))
    return context, trained(context, {NAME: aware(context)})


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_every_layer_reads_its_input_with_the_learned_scale(
    residual: tuple[Context, Trained], tmp_path: Path, exporter: str
) -> None:
    context, done = residual
    source = exported(done.model, context, tmp_path, exporter)
    written = layer_scales(quantized(source, context, done.learned))
    assert len(written) == 9, "a stem, three blocks of two, a shortcut and a head"
    assert written == learned_scales(done.learned)
    calibrated = layer_scales(quantized(source, context, {}))
    assert not set(written) & set(calibrated), "calibration on the same data gives none of these by itself"


def test_layers_that_read_the_same_tensor_share_its_range(residual: tuple[Context, Trained]) -> None:
    context, done = residual
    learned = done.learned[NAME]
    one, other = ({**learned[f"blocks.1.{name}"], "weight": None} for name in ("conv1", "shortcut"))
    assert one == other
    assert len(list(aware_parameters(context, done.model))) == 8, "nine layers, two of which read one tensor"


def aware_parameters(context: Context, model: nn.Module) -> Any:
    hook = aware(context)
    hook.wrap(copy.deepcopy(model))
    return hook.parameters()


@pytest.mark.parametrize("arithmetic", [Arithmetic(), Arithmetic(bfloat16=True, channels_last=True)])
def test_the_file_computes_what_was_trained(
    residual: tuple[Context, Trained], examples: Examples, tmp_path: Path, arithmetic: Arithmetic
) -> None:
    context, _ = residual
    done = trained(context, {NAME: aware(context)}, 1024, 0.01, arithmetic)
    x, _ = examples(128, 7)
    path = quantized(exported(done.model, context, tmp_path), context, done.learned)
    computed, expected = outputs(path, x), as_trained(done.model, context, done.learned, x)
    step = (expected.max() - expected.min()) / 255
    assert (computed - expected).abs().max() < 4 * step
    assert (computed - expected).abs().mean() < step


def test_a_clipped_shortcut_is_trained_as_it_is_written(residual: tuple[Context, Trained], tmp_path: Path) -> None:
    context, done = residual
    learned = copy.deepcopy(done.learned)
    narrow = learned[NAME]["blocks.0.conv1"]
    narrow["logs"] = [0.0, -0.4]  # a quarter of its range: the shortcut beside the layer must be clipped too
    hook = aware(context)
    hook.resume(learned[NAME])
    model = hook.wrap(copy.deepcopy(done.model))
    x = context.train.take(torch.arange(128)).inputs
    with torch.no_grad():
        expected = model(x)
    hook.unwrap(model)
    path = quantized(exported(model, context, tmp_path), context, {NAME: hook.learned()})
    step = (expected.max() - expected.min()) / 255
    with torch.no_grad():
        assert (expected - model(x)).abs().max() > 20 * step, "the narrow range is felt"
    assert (outputs(path, x) - expected).abs().max() < 4 * step


@pytest.mark.parametrize(("saturates", "largest"), [(False, 127), (True, 64)])
def test_integer_weights_are_those_of_the_training(
    saturates: bool, largest: int, examples: Examples, tmp_path: Path, declared: Callable[[bool], Runtime]
) -> None:
    class Upward(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(1, 8, 3, 2, 1, bias=False)
            self.bn = nn.BatchNorm2d(8)
            self.up = nn.ConvTranspose2d(8, 6, 2, 2)
            self.head = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.up(F.relu(self.bn(self.down(x))))).mean((2, 3)))

    context = context_of(Upward(), examples(256, 1), tmp_path, runtime=declared(saturates))
    done = trained(context, {NAME: aware(context)}, 512)
    computed = computed_weights(done.model, context)
    graph = onnx.load(str(quantized(exported(done.model, context, tmp_path), context, done.learned))).graph
    tensors = [numpy_helper.to_array(t) for t in graph.initializer]
    codes = {t.size: t.astype(int) for t in tensors if t.dtype == np.int8 and t.ndim > 1}
    for layer, channels in (("down", 0), ("up", 1), ("head", 0)):
        weight = computed[layer]
        others = [axis for axis in range(weight.dim()) if axis != channels]
        levels = weight / weight.abs().amax(others, keepdim=True) * largest
        expected = levels.round().numpy()
        assert levels.numpy() == pytest.approx(expected, abs=1e-3), "whole numbers, the largest of them in each channel"
        found = codes[expected.size].reshape(expected.shape)
        # A negative factor of a folded batch norm turns the sign of a channel.
        difference = np.abs(np.abs(found) - np.abs(expected))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01, "the same integers, but for ties that float rounding decides"


def test_weights_are_kept_in_float_under_their_own_names(tiny_task: Task, tmp_path: Path) -> None:
    context = context_of(tiny_task.model, tiny_task.train, tmp_path)

    class Watch(TrainHook):
        names: tuple[str, ...] = ()

        def after_step(self, model: nn.Module, progress: float) -> None:
            Watch.names = tuple(name for name, _ in model.named_parameters())

    done = trained(context, {NAME: aware(context), "watch": Watch()}, 256)
    assert Watch.names == tuple(name for name, _ in context.model.named_parameters())
    assert done.model.state_dict().keys() == context.model.state_dict().keys()
    weight = done.model.conv2.weight
    assert isinstance(weight, nn.Parameter)
    assert not torch.allclose(weight, fake_quantized_weight(done.model.conv2), atol=1e-6), (
        "the latent weight, unrounded"
    )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in done.model.modules())


def test_rounding_leaves_the_weights_themselves_alone(tiny_task: Task, tmp_path: Path) -> None:
    context = context_of(tiny_task.model, tiny_task.train, tmp_path)
    model, x = context.task.copy_of_model(), context.train.take(torch.arange(32)).inputs
    before, float_outputs = copy.deepcopy(model.state_dict()), model(x)
    wrapped = aware(context).wrap(model)
    assert not torch.equal(wrapped(x), float_outputs)
    wrapped(x).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in wrapped.state_dict().items())
    assert all(parameter.grad is not None for parameter in wrapped.parameters()), "straight through the rounding"


def test_zero_is_exact_and_clipped_values_move_the_end_that_clips_them() -> None:
    learned = LearnedRange({"extremes": [-0.7, 1.3], "logs": [0.0, 0.0]})
    values = torch.tensor([0.0, 0.31, 5.0, 6.0], requires_grad=True)
    quantized = learned.fake_quantized(values, training=False)
    assert quantized[0] == 0
    assert torch.allclose(quantized, torch.tensor([0.0, 0.31, 1.3, 1.3]), atol=1.3 / 255)
    quantized[2:].sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 0, 0, 0], "nothing passes what was clipped"
    assert learned.logs.grad is not None
    assert learned.logs.grad[1] > 100 * learned.logs.grad[0].abs()


def test_until_it_starts_everything_is_float(tiny_task: Task, tmp_path: Path) -> None:
    context = context_of(tiny_task.model, tiny_task.train, tmp_path)
    x = context.train.take(torch.arange(32)).inputs
    hook, plain = aware(context, 0.5), context.task.copy_of_model()
    model = hook.wrap(context.task.copy_of_model())
    with torch.no_grad():
        hook.after_step(model, 0.4)
        assert torch.equal(model(x), plain(x))
        assert hook.unwrap(model) is model
        assert hook.learned() == {}, "no range was seen"
        hook.wrap(model)
        hook.after_step(model, 0.5)
        assert not torch.equal(model(x), plain(x))


def test_a_later_rung_goes_on_with_what_was_learned(residual: tuple[Context, Trained]) -> None:
    context, done = residual
    hook = aware(context, 0.5)
    stored = json.loads(json.dumps(done.learned[NAME]))
    assert len(json.dumps(stored)) < 300 * len(stored)
    for own in stored.values():
        own["logs"] = [-0.1, -0.1]  # 0.7 of the extremes, which no single step could come to
    hook.resume(stored)
    further = trained(context, {NAME: hook}, 64, 1e-3, model=copy.deepcopy(done.model)).learned[NAME]
    assert further.keys() == stored.keys()
    for layer, own in further.items():
        assert own["logs"] == pytest.approx([-0.1, -0.1], abs=2e-3), layer
        assert own["extremes"] == pytest.approx(stored[layer]["extremes"], rel=0.1, abs=1e-3), layer


def test_learned_ranges_help_where_outliers_spoil_calibration(examples: Examples, tmp_path: Path) -> None:
    def spiked(size: int, seed: int) -> tuple[Tensor, Tensor]:
        x, y = examples(size, seed)
        spikes = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < 5e-4
        return x.masked_fill(spikes, 1000.0), y

    context = context_of(Plain(), spiked(512, 1), tmp_path)
    plain = trained(context, {}, 8192, 0.01).model
    done = trained(context, {NAME: aware(context)}, 8192, 0.01, model=copy.deepcopy(plain))
    x, y = spiked(256, 2)

    def accuracy(model: nn.Module, learned: Mapping[str, Any]) -> float:
        path = quantized(exported(model, context, tmp_path), context, learned)
        return float((outputs(path, x).argmax(1) == y).float().mean())

    learned = accuracy(done.model, done.learned)
    assert learned > accuracy(plain, {}) + 0.1, "the float network, calibrated"
    assert learned > accuracy(done.model, {}) + 0.05, "the same weights without their ranges"


def test_before_training_ranges_are_calibrated(residual: tuple[Context, Trained], tmp_path: Path) -> None:
    context, done = residual
    source = exported(done.model, context, tmp_path)
    path = quantized(source, context, {})
    x = context.train.take(torch.arange(128)).inputs
    assert len(layer_scales(path)) == 9
    same = outputs(path, x).argmax(1) == outputs(source, x).argmax(1)
    assert float(same.float().mean()) > 0.95


def test_the_profiles_batch_is_built_in(examples: Examples, tmp_path: Path) -> None:
    context = context_of(Plain(), examples(256, 1), tmp_path, batch=3)
    done = trained(context, {NAME: aware(context)}, 256)
    path = quantized(exported(done.model, context, tmp_path), context, done.learned)
    assert layer_scales(path) == learned_scales(done.learned)
    assert outputs(path, context.train.take(torch.arange(6)).inputs, 3).shape == (6, 4)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x[:, 0])[0][:, -1]


class Attending(nn.Module):
    """Its encoder layer reads the weights of ``out_proj`` without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x[:, 0]).mean(1))


def test_a_model_without_such_layers_is_refused_and_left_alone(examples: Examples, tmp_path: Path) -> None:
    context = context_of(Recurrent(), examples(64, 1), tmp_path)
    before = copy.deepcopy(context.model.state_dict())
    reason = QuantizeAware().refuses(context)
    assert reason is not None
    assert "gru (GRU)" in reason
    assert all(torch.equal(value, before[name]) for name, value in context.model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in context.model.modules())


def test_layers_whose_weights_are_read_elsewhere_are_calibrated(examples: Examples, tmp_path: Path) -> None:
    context = context_of(Attending(), examples(256, 1), tmp_path)
    assert QuantizeAware().refuses(context) is None
    done = trained(context, {NAME: aware(context)}, 512)
    assert set(done.learned[NAME]) == {"encoder.linear1", "encoder.linear2", "head"}
    source = exported(done.model, context, tmp_path)
    path = quantized(source, context, done.learned)
    written = layer_scales(path)
    assert all(own in written for own in learned_scales(done.learned))
    assert len(written) > 3
    x = context.train.take(torch.arange(64)).inputs
    assert float((outputs(path, x).argmax(1) == outputs(source, x).argmax(1)).float().mean()) > 0.9


def test_what_enters_a_layer_that_holds_the_norm_in_front_of_it_is_calibrated(
    examples: Examples, tmp_path: Path
) -> None:
    layers = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 16), nn.ReLU()
    context = context_of(nn.Sequential(nn.Flatten(), *layers, nn.Linear(16, 4)), examples(512, 1), tmp_path)
    done = trained(context, {NAME: aware(context)})
    source = exported(done.model, context, tmp_path)
    path = quantized(source, context, done.learned)
    for file in (source, path):
        assert "BatchNormalization" not in {node.op_type for node in onnx.load(str(file)).graph.node}
    first, normed, last = ((own["scale"], own["zero_point"]) for own in done.learned[NAME].values())
    assert {first, last} <= set(layer_scales(path))
    assert normed not in layer_scales(path)
    x = context.train.take(torch.arange(64)).inputs
    assert float((outputs(path, x).argmax(1) == outputs(source, x).argmax(1)).float().mean()) > 0.9


def test_a_recipe_gives_a_float_and_an_int8_file_and_replays(
    open_quickly: Any, tiny_task: Task, plugins: PluginSet, tmp_path: Path
) -> None:
    here = open_quickly(tiny_task, plugins, tmp_path / "run", only={NAME})
    opened = here.task
    family = Recipe((Step.of("distill_logits", alpha=0.9, temperature=4.0), Step.of(NAME, starts_at=0.0)))
    outcome = here.evaluate(family, examples=256)
    assert not outcome.failed
    plain, int8, *_ = outcome.evaluations
    params = QuantizeAware().variants(opened.context)[0]
    assert (plain.recipe, int8.recipe) == (family, family.rewritten(Step.of(NAME, **params)))
    file = opened.folder.root / int8.artifact
    assert layer_scales(file) == learned_scales(outcome.learned)
    stored = RecipeFile.read(file.with_name("recipe.toml"))
    again = tmp_path / "again.onnx"
    context = replace(opened.context, learned=stored.learned)
    rewrite(plugins, stored.recipe.variant, opened.folder.root / plain.artifact, again, context)
    x = tiny_task.val[0]
    assert torch.equal(outputs(again, x), outputs(file, x))


class InPlace(nn.Module):
    """(N, 1, 8, 8) -> (N, 4): what enters ``conv2`` was a batch norm's output until it was changed in place; what
    enters ``head`` went through dropout.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, 2, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv1(x)), inplace=True)
        return self.head(self.dropout(self.pool(self.conv2(x)).flatten(1)))


def test_what_a_function_changed_in_place_is_no_modules_output(examples: Examples, tmp_path: Path) -> None:
    context = context_of(InPlace(), examples(64, 1), tmp_path)
    assert layer_inputs(context.model, [context.example_inputs])["conv2"].source is None
    made = trained(context, {NAME: aware(context)}, examples=256)
    assert made.learned[NAME]["conv2"]["zero_point"] == 0, "the range of a ReLU starts at zero"


def test_dropout_makes_no_range_wider(examples: Examples, tmp_path: Path) -> None:
    context = context_of(InPlace(), examples(64, 1), tmp_path)
    context.model.pool.register_forward_hook(lambda module, given, gave: gave)
    assert layer_inputs(context.model, [context.example_inputs])["head"].source != "dropout"


def test_examples_that_a_data_set_draws_anew_are_recognised(examples: Examples, tmp_path: Path) -> None:
    class Noisy(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return 64

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.randn(1, 8, 8), index % 4

    model = Plain()
    task = Task("noisy", model, Noisy(), examples(64, 2))
    context = read_task(task, HardwareProfile(name="here"), OnnxRuntime(), tmp_path / "reference.onnx", 0).context
    made = trained(context, {NAME: aware(context)}, examples=128)
    path = exported(made.model, context, tmp_path)
    assert layer_scales(quantized(path, context, made.learned)) == learned_scales(made.learned)


# -- what is recognised in the file ------------------------------------------------------------------------------------


def test_layers_whose_inputs_are_not_in_the_file_are_named(residual: tuple[Context, Trained], tmp_path: Path) -> None:
    """However many others are: one of them calibrated without a word is not what was trained."""
    context, done = residual
    source = exported(done.model, context, tmp_path)
    learned = copy.deepcopy(done.learned)
    own = learned[NAME]["blocks.0.conv2"]
    own["inputs"] = [[2 * number for number in own["inputs"][0]]]
    with pytest.raises(CandidateFailed, match=r"what enters blocks\.0\.conv2 is not recognised in the exported file"):
        quantized(source, context, learned)
    for own in learned[NAME].values():
        own |= {"inputs": [[2.0, 3.0] * 4], "weight": [1, 2, 3]}
    with pytest.raises(CandidateFailed, match=r"what enters stem\.0, .* and others is not recognised"):
        quantized(source, context, learned)


class Tangled(nn.Module):
    """Of its layers ``unread`` and ``auxiliary`` do not reach the first output, and ``of_place`` sees no input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, 2)
        self.unread, self.auxiliary = nn.Linear(8, 12), nn.Linear(12, 5)
        self.place = nn.Parameter(torch.linspace(-1, 1, 6)[None])
        self.of_place = nn.Linear(6, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.conv(x)).mean((2, 3))
        return self.head(x + self.of_place(self.place)), self.auxiliary(F.relu(self.unread(x)))


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_layers_that_are_not_in_the_file_are_not_looked_for(examples: Examples, tmp_path: Path, exporter: str) -> None:
    context = context_of(Tangled(), examples(64, 1), tmp_path, outputs=["output_0"])
    done = trained(context, {NAME: aware(context)}, 256)
    assert set(done.learned[NAME]) == {"conv", "unread", "auxiliary", "of_place", "head"}
    written = layer_scales(quantized(exported(done.model, context, tmp_path, exporter), context, done.learned))
    kept = {name: own for name, own in done.learned[NAME].items() if name in ("conv", "head")}
    assert written == learned_scales({NAME: kept})


class Padded(nn.Module):
    """Paddings with zeros before a layer, which may become part of the convolution, and one of another kind in it."""

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, padding=1)
        self.conv3 = nn.Conv2d(8, 6, 3, 2, padding=1, padding_mode="reflect")
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.conv1(self.pad(x)))
        x = F.relu(self.conv2(F.pad(x, (1, 0, 1, 0))))
        return self.head(F.relu(self.conv3(x)).mean((2, 3)))


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_a_padding_hides_no_input(examples: Examples, tmp_path: Path, exporter: str) -> None:
    context = context_of(Padded(), examples(64, 1), tmp_path)
    done = trained(context, {NAME: aware(context)}, 256)
    source = exported(done.model, context, tmp_path, exporter)
    assert [node.op_type for node in onnx.load(str(source)).graph.node].count("Pad") < 3, "one at least is folded away"
    assert layer_scales(quantized(source, context, done.learned)) == learned_scales(done.learned)


class Silent(nn.Module):
    """What enters ``one`` and ``also``, which read one tensor, and ``other`` is always zero, and as large."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.silence = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 8, 3), nn.ReLU()
        self.one, self.also, self.other = (nn.Conv2d(8, 6, 1) for _ in range(3))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.silence(self.first(x) - 1000), F.relu(self.second(x) - 1000)
        return self.head(x.mean((2, 3)) + (self.one(one) + self.also(one) + self.other(other)).mean((2, 3)))


def test_silent_inputs_are_mistaken_for_no_other(examples: Examples, tmp_path: Path) -> None:
    context = context_of(Silent(), examples(64, 1), tmp_path)
    assert len(list(aware_parameters(context, context.model))) == 4, "of six layers twice two read one tensor"
    done = trained(context, {NAME: aware(context)}, 128)
    assert set(done.learned[NAME]) == {"first", "second", "one", "also", "other", "head"}
    path = exported(done.model, context, tmp_path)
    found = _learned_ranges(path, done.learned[NAME], context)
    assert set(found.values()) == {_range(done.learned[NAME][name]) for name in ("first", "head")}
    layers = layer_scales(quantized(path, context, done.learned))
    assert len(layers) == 5, "two of the six are parallel, and one convolution in the file"


def test_an_input_that_is_silent_on_one_example_is_recognised(examples: Examples, tmp_path: Path) -> None:
    x, y = examples(64, 1)
    x[0] = 0
    context = context_of(Plain(), (x, y), tmp_path)
    done = trained(context, {NAME: aware(context)}, 256)
    written = layer_scales(quantized(exported(done.model, context, tmp_path), context, done.learned))
    assert written == learned_scales(done.learned)

"""Weight sharing: few values in a layer, before and after training, and a file that packs smaller."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.count import compressed_size, count
from autocompress.candidate.export import check
from autocompress.data import feed_of
from autocompress.plugin.contract import Context, Params, TrainHook
from autocompress.profile import HardwareProfile
from autocompress.storage.store import Store
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime
from autocompress_plugins.weights.share_weights import ShareWeights
from tests.layouts import layout_of

MakeContext = Callable[..., Context]
Train = Callable[..., nn.Module]
X = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(5))
TIED = {"codebook": 64, "tie": "equal_shapes"}


class Deep(nn.Module):
    """Two blocks of one shape, a recurrent stack whose second and third layers are of one, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)) for _ in range(2))
        self.rnn = nn.GRU(32, 24, 3, batch_first=True)
        self.convs = nn.Sequential(nn.Conv1d(24, 24, 3), nn.Conv1d(24, 24, 3))
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.convs(self.rnn(x)[0].transpose(1, 2)).mean(2))


@pytest.fixture
def deep(make_context: MakeContext) -> Context:
    torch.manual_seed(0)
    return make_context(Deep().eval(), X)


def shared(context: Context, params: Params) -> nn.Module:
    plan = json.loads(json.dumps(ShareWeights().plan(context.model, params, context)))
    return ShareWeights().apply(copy.deepcopy(context.model), plan, context)


def levels(weight: Tensor) -> set[float]:
    return set(weight.detach().flatten().tolist())


def hook(codebook: int, context: Context) -> TrainHook:
    return ShareWeights().hook({"codebook": codebook}, context)


@pytest.mark.parametrize("entries", [64, 16])
def test_large_layers_hold_a_few_values_and_the_rest_is_left_alone(entries: int, deep: Context):
    model = shared(deep, {"codebook": entries, "tie": "none"})
    for name, before in deep.model.named_parameters():
        after = model.get_parameter(name)
        if before.dim() > 1 and before.numel() >= 16 * entries:
            assert len(levels(after)) <= entries
            assert 0.0 in levels(after)
            assert (after - before).norm() < (0.05 if entries == 64 else 0.15) * before.norm()
        else:
            assert torch.equal(after, before), name


def test_codebook_fits_better_than_an_even_grid(deep: Context):
    with torch.no_grad():
        deep.model.head.weight.normal_()
        weight = deep.model.blocks[0][0].weight
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) ** 3)  # heavy tails
    after = shared(deep, {"codebook": 16}).blocks[0][0].weight
    grid = torch.linspace(weight.min().item(), weight.max().item(), 16)
    even = grid[(weight[..., None] - grid).abs().argmin(-1)]
    assert (after - weight).norm() < 0.7 * (even - weight).norm()


def test_zeros_stay_zeros(deep: Context):
    weight = deep.model.rnn.weight_hh_l0
    zeros = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    with torch.no_grad():
        weight[zeros] = 0
    after = shared(deep, {"codebook": 16}).rnn.weight_hh_l0
    assert bool((after[zeros] == 0).all())


def test_files_pack_smaller_the_fewer_values_and_hold_tied_layers_once(
    deep: Context, to_file: Callable[..., Path], fake_runtime: Any
):
    models = [deep.model, *(shared(deep, params) for params in ({"codebook": 64}, {"codebook": 16}, TIED))]
    paths = [to_file(model, X) for model in models]
    whole, many, few, tied = (compressed_size(path) for path in paths)
    assert many < 0.7 * whole
    assert few < 0.85 * many
    assert tied < 0.9 * many
    weights = [sum(p.numel() for p in model.parameters()) for model in models]
    saved = weights[1] - weights[3]
    assert saved > 4000
    assert count(paths[1])[0] - count(paths[3])[0] >= 0.9 * saved
    check(fake_runtime.open(paths[3], deep.profile), [feed_of(X)], models[3], layout_of(models[3], X), [X])


class Watch(TrainHook):
    """The values of one layer after each step."""

    def __init__(self) -> None:
        self.levels: list[set[float]] = []

    def after_step(self, model: nn.Module, progress: float) -> None:
        self.levels.append(levels(model.get_parameter("conv2.weight")))


def test_training_is_free_at_first_and_then_moves_the_entries(tiny_context: Context, trained: Train):
    watch = Watch()
    model = trained(shared(tiny_context, {"codebook": 16}), [hook(16, tiny_context), watch], 512)
    free, held = watch.levels[:12], watch.levels[12:]
    assert min(map(len, free)) > 100
    assert max(map(len, held)) <= 16
    assert len(held[0] - held[-1]) > 8, "all entries but zero are trained"
    assert all(0.0 in values for values in held)
    assert len(levels(model.conv2.weight)) <= 16


def test_training_wins_back_what_sixteen_values_cost(tiny_context: Context, trained: Train):
    """The codebook is put on noisy weights, so that it costs accuracy."""
    with torch.no_grad():
        weight = tiny_context.model.conv2.weight
        weight += 0.5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    start = shared(tiny_context, {"codebook": 16})
    batch = tiny_context.train.take(torch.arange(256))

    def loss(model: nn.Module) -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model.eval()(batch.inputs), batch.targets))

    before = loss(start)
    after = trained(start, [hook(16, tiny_context)], 1024)
    assert loss(after) < 0.8 * before


def test_a_later_rung_goes_on_from_the_shared_weights(tiny_context: Context, trained: Train):
    model = shared(tiny_context, {"codebook": 16})
    for start in (0, 256):
        model = trained(model, [hook(16, tiny_context)], 256, start=start)
        assert len(levels(model.conv2.weight)) <= 16


def test_training_too_short_for_a_step_of_its_own_still_shares(tiny_context: Context, trained: Train):
    model = trained(copy.deepcopy(tiny_context.model), [hook(16, tiny_context)], 32)
    assert len(levels(model.conv2.weight)) <= 16


def test_layers_of_one_role_and_shape_are_tied(deep: Context):
    model = shared(deep, TIED)
    assert model.blocks[0][0].weight is model.blocks[1][0].weight
    assert model.blocks[0][2].weight is model.blocks[1][2].weight
    assert model.rnn.weight_hh_l0 is model.rnn.weight_hh_l1 is model.rnn.weight_hh_l2
    assert model.rnn.weight_ih_l1 is model.rnn.weight_ih_l2 is not model.rnn.weight_ih_l0
    assert model.convs[0].weight is not model.convs[1].weight
    assert model.blocks[0][0].bias is not model.blocks[1][0].bias


def test_tied_model_is_saved_and_loaded_into_its_rebuilt_structure(deep: Context, tmp_path: Path):
    model = shared(deep, TIED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)  # as if trained
    store = Store(tmp_path / "store")
    store.save("weights", model.state_dict())
    again = shared(deep, TIED)
    again.load_state_dict(store.load("weights"))
    assert again.blocks[0][0].weight is again.blocks[1][0].weight
    with torch.no_grad():
        assert torch.equal(again(X), model(X))


def test_tied_layers_stay_tied_while_they_train(deep: Context):
    model = shared(deep, TIED).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    model(X).square().sum().backward()
    optimizer.step()
    ended = hook(64, deep).unwrap(model)
    assert ended.blocks[0][0].weight is ended.blocks[1][0].weight
    assert len(levels(ended.blocks[0][0].weight)) <= 64


def test_only_choices_that_can_help_are_offered(deep: Context, make_context: MakeContext):
    assert {p.name for p in ShareWeights().parameters(deep)} == {"codebook", "tie"}
    single = make_context(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), X)
    (codebook,) = ShareWeights().parameters(single)
    assert codebook.choices == (16,)


class Numbered(nn.Module):
    """Blocks whose numbers are part of a name, in the ways that people name them; ``out`` has a shape of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_layer_0, self.encoder_layer_1 = (nn.Sequential(nn.Linear(32, 48)) for _ in range(2))
        self.layer1, self.layer2 = (nn.ModuleDict({"fc": nn.Linear(48, 32)}) for _ in range(2))
        self.fc1, self.fc2, self.fc3 = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 16)
        self.gate1, self.value1 = nn.Linear(32, 32), nn.Linear(32, 32)
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for wide, thin in ((self.encoder_layer_0, self.layer1), (self.encoder_layer_1, self.layer2)):
            x = x + thin["fc"](wide(x))
        x = torch.sigmoid(self.gate1(x)) * self.value1(x)
        return self.out(self.fc3(self.fc2(self.fc1(x)))).mean(1)


def test_numbers_anywhere_in_a_name_tell_blocks_of_one_role_apart(make_context: MakeContext):
    torch.manual_seed(0)
    model = shared(make_context(Numbered().eval(), X), TIED)
    assert model.encoder_layer_0[0].weight is model.encoder_layer_1[0].weight
    assert model.layer1["fc"].weight is model.layer2["fc"].weight
    assert model.fc1.weight is model.fc2.weight
    assert model.fc3.weight.shape == (16, 32), "the shape tells what the name does not"
    assert model.gate1.weight is not model.value1.weight, "another word is another role"


def test_small_model_is_refused(deep: Context, make_context: MakeContext):
    small = make_context(nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), X, loss="mse")
    assert "256 weights" in ShareWeights().refuses(small)
    assert ShareWeights().refuses(deep) is None


class Faster(OnnxRuntime):
    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        return frozenset({"few_values"})


def test_it_is_for_size_only_unless_the_runtime_looks_weights_up(deep: Context):
    assert "fake" in ShareWeights().size_only(deep), "what holds for most, where the runtime does not say"
    context = replace(deep, runtime=OnnxRuntime())
    assert "onnxruntime" in ShareWeights().size_only(context)
    assert ShareWeights().size_only(replace(context, runtime=Faster())) is None

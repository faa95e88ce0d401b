"""Magnitude pruning: exact zeros in the exported file, reached gradually, in the chosen pattern."""

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.count import compressed_size
from autocompress.candidate.export import check
from autocompress.data import feed_of
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, LossTerm, TrainHook, TrainStep
from autocompress.profile import HardwareProfile
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime
from autocompress_plugins.weights.prune_weights import SETTLED, PruneWeights
from tests.layouts import layout_of

Train = Callable[..., nn.Module]
IMAGE = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(5))
PRUNED = ("conv.weight", "conv2.weight", "head.weight")


def hook(context: Context, sparsity: float = 0.8, scope: str = "global") -> TrainHook:
    return PruneWeights().hook({"sparsity": sparsity, "scope": scope}, context)


def copy_of(context: Context) -> nn.Module:
    return copy.deepcopy(context.model)


def zeros(model: nn.Module, names: tuple[str, ...] = PRUNED) -> float:
    """Share of zeros among all weights that can be pruned."""
    weights = [model.get_parameter(name) for name in names]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


class Watch(TrainHook):
    """What the hooks before it left after each step."""

    def __init__(self) -> None:
        self.sparsity: list[float] = []
        self.masks: list[Tensor] = []
        self.progress: list[float] = []

    def after_step(self, model: nn.Module, progress: float) -> None:
        self.sparsity.append(zeros(model))
        self.masks.append(model.get_parameter("conv2.weight") != 0)
        self.progress.append(progress)


def test_global_scope_zeroes_the_share_of_all_weights(tiny_context: Context, trained: Train):
    model = trained(copy_of(tiny_context), [hook(tiny_context, 0.8)], 512)
    assert zeros(model) == pytest.approx(0.8, abs=1e-3)
    each = [zeros(model, (name,)) for name in PRUNED]
    assert max(each) - min(each) > 0.1, "layers with smaller weights lose more"


def test_layer_scope_zeroes_the_share_of_each(tiny_context: Context, trained: Train):
    model = trained(copy_of(tiny_context), [hook(tiny_context, 0.5, "layer")], 512)
    for name in PRUNED:
        assert zeros(model, (name,)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("scope", "kept"), [("2:4", 2), ("1:4", 1)])
def test_pattern_keeps_n_of_every_m_inputs(scope: str, kept: int, tiny_context: Context, trained: Train):
    model = trained(copy_of(tiny_context), [hook(tiny_context, 0.95, scope)], 512)
    for weight in (model.conv2.weight.permute(0, 2, 3, 1), model.head.weight):
        assert bool(((weight.reshape(-1, 4) != 0).sum(1) == kept).all())
    assert bool((model.conv.weight != 0).all()), "one input: no group of four"


def test_the_largest_of_each_group_are_kept(tiny_context: Context):
    model = copy_of(tiny_context)
    before = model.head.weight.detach().clone().reshape(-1, 4)
    own = hook(tiny_context, scope="2:4")
    after = own.unwrap(own.wrap(model)).head.weight.reshape(-1, 4)
    for row, pruned in zip(before, after, strict=True):
        assert set((pruned != 0).nonzero().flatten().tolist()) == set(row.abs().topk(2).indices.tolist())


def test_biases_and_norms_are_left_alone(tiny_context: Context, trained: Train):
    model = trained(copy_of(tiny_context), [hook(tiny_context, 0.95)], 512)
    left = [parameter for name, parameter in model.named_parameters() if name not in PRUNED]
    assert left
    assert all(bool((parameter != 0).all()) for parameter in left)


def test_recurrent_layers_are_pruned_and_embeddings_are_not(tiny_context: Context):
    model = nn.ModuleDict({"embed": nn.Embedding(9, 8), "rnn": nn.LSTM(8, 8, 2, bidirectional=True)})
    own = hook(tiny_context, 0.9)
    own.unwrap(own.wrap(model))
    assert bool((model["embed"].weight != 0).all())
    assert zeros(model, tuple(f"rnn.{n}" for n, p in model["rnn"].named_parameters() if p.dim() > 1)) > 0.89


def test_sparsity_rises_along_the_cubic_schedule_and_the_masks_settle(tiny_context: Context, trained: Train):
    watch = Watch()
    trained(copy_of(tiny_context), [hook(tiny_context, 0.8), watch], 1024)
    for progress, sparsity in zip(watch.progress, watch.sparsity, strict=True):
        expected = 0.8 * (1 - (1 - min(1, progress / SETTLED)) ** 3)
        assert sparsity == pytest.approx(expected, abs=1e-3)
    settled = next(i for i, p in enumerate(watch.progress) if p >= SETTLED)
    assert len(watch.masks) > settled + 1
    assert all(torch.equal(one, other) for one, other in pairwise(watch.masks[settled:]))


def test_weights_come_back_while_the_schedule_runs(tiny_context: Context):
    """A zeroed weight that training keeps pushing up overtakes the others; after the schedule it is too late."""
    model, own = copy_of(tiny_context), hook(tiny_context, 0.5, "layer")
    with torch.no_grad():
        model.head.weight.fill_(1.0)
        model.head.weight[0, 0] = 0.5  # the smallest
    own.wrap(model)
    seen = []
    for number in range(20):
        with torch.no_grad():
            model.head.weight[0, 0] += 0.1
        own.after_step(model, 0.03 * number)
        seen.append(model.head.weight[0, 0].item())
    assert 0.0 in seen
    assert seen[-1] == pytest.approx(2.5), "with all that it was pushed by in the meantime"
    own.after_step(model, SETTLED)
    row, column = (model.head.weight == 0).nonzero()[0].tolist()
    for _ in range(20):
        with torch.no_grad():
            model.head.weight[row, column] += 1
        own.after_step(model, 0.9)
    assert own.unwrap(model).head.weight[row, column] == 0


def test_zeros_are_exact_in_the_file_which_packs_smaller(
    tiny_context: Context, trained: Train, to_file: Callable[..., Path], fake_runtime: Any
):
    model = trained(copy_of(tiny_context), [hook(tiny_context, 0.9)], 512)
    path = to_file(model, IMAGE)
    check(fake_runtime.open(path, tiny_context.profile), [feed_of(IMAGE)], model, layout_of(model, IMAGE), [IMAGE])
    weights = [onnx.numpy_helper.to_array(t) for t in onnx.load(str(path)).graph.initializer if len(t.dims) > 1]
    assert sum((w == 0).sum() for w in weights) / sum(w.size for w in weights) == pytest.approx(0.9, abs=1e-3)
    assert compressed_size(path) < 0.75 * compressed_size(to_file(tiny_context.model, IMAGE))


def test_training_while_pruning_is_better_than_pruning_alone(tiny_context: Context, trained: Train):
    batch = tiny_context.train.take(torch.arange(256))

    def accuracy(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model.eval()(batch.inputs).argmax(1) == batch.targets).float().mean())

    once = hook(tiny_context, 0.9)
    at_once = accuracy(once.unwrap(once.wrap(copy_of(tiny_context))))
    gradual = accuracy(trained(copy_of(tiny_context), [hook(tiny_context, 0.9)], 2048))
    assert gradual > at_once + 0.05


@pytest.mark.parametrize("scope", ["global", "2:4"])
def test_a_later_rung_keeps_the_sparsity_from_its_first_step(scope: str, tiny_context: Context, trained: Train):
    model = trained(copy_of(tiny_context), [hook(tiny_context, 0.8, scope)], 256)
    reached, watch = zeros(model), Watch()
    model = trained(model, [hook(tiny_context, 0.8, scope), watch], 256, start=256)
    assert min(watch.sparsity) >= reached - 1e-3
    assert zeros(model) >= reached - 1e-3


def test_a_model_that_is_sparser_than_asked_stays_so(tiny_context: Context, trained: Train):
    model = trained(copy_of(tiny_context), [hook(tiny_context, 0.9)], 256)
    assert zeros(trained(model, [hook(tiny_context, 0.5)], 256)) >= 0.89


class Shrink(TrainHook):
    """Another strategy: its own loss, and its own action on the weights after each step."""

    needs_teacher = True

    def loss(self, step: TrainStep) -> LossTerm:
        return LossTerm(nn.functional.mse_loss(step.outputs, step.teacher), 0.5, 0.5)

    def after_step(self, model: nn.Module, progress: float) -> None:
        with torch.no_grad():
            model.get_parameter("conv2.weight").mul_(0.999)


def test_works_beside_another_hook(tiny_context: Context, trained: Train):
    model = trained(copy_of(tiny_context), [hook(tiny_context, 0.8), Shrink()], 512)
    assert zeros(model) == pytest.approx(0.8, abs=1e-3)


def test_training_too_short_for_the_schedule_still_ends_sparse(tiny_context: Context, trained: Train):
    assert zeros(trained(copy_of(tiny_context), [hook(tiny_context, 0.8)], 32)) == pytest.approx(0.8, abs=1e-3)


def test_pattern_that_fits_no_layer_fails_with_the_reason(tiny_context: Context):
    with pytest.raises(CandidateFailed, match="groups of 4"):
        hook(tiny_context, scope="2:4").wrap(nn.Sequential(nn.Linear(7, 3)))


class Faster(OnnxRuntime):
    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        return frozenset({"zeros"})


def test_it_is_for_size_only_unless_the_runtime_makes_use_of_zeros(tiny_context: Context):
    assert PruneWeights().refuses(tiny_context) is None
    assert "fake" in PruneWeights().size_only(tiny_context), "what holds for most, where the runtime does not say"
    context = replace(tiny_context, runtime=OnnxRuntime())
    assert "onnxruntime" in PruneWeights().size_only(context)
    assert PruneWeights().size_only(replace(context, runtime=Faster())) is None

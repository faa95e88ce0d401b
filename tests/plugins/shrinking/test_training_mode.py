"""What runs in training mode alone goes with the trunk: pruned models still train, and what cannot follow is left."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.reading import read_task
from autocompress.candidate.repair.declared import check_declared
from autocompress.plugin.contract import Context, StructureStrategy
from autocompress.profile import HardwareProfile
from autocompress.task import Task
from autocompress_plugins.distillation.student import Student
from autocompress_plugins.pruning.prune_channels import PruneChannels
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime

OpenContext = Callable[[Task], Context]


class Outputs(NamedTuple):
    logits: Tensor
    aux: Tensor


class Auxiliary(nn.Module):
    """(N, 1, 8, 8) -> (N, 3), while training with the same again from the middle. fixed: that head knows a size."""

    def __init__(self, fixed: bool = False) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.head, self.aux = nn.Linear(16, 3), nn.Sequential(nn.Conv2d(16, 8, 1), nn.Flatten(), nn.Linear(512, 3))
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor | Outputs:
        x = self.stem(x).relu()
        logits = self.head(self.body(x).relu().mean((2, 3)))
        return Outputs(logits, self.aux(x.view(len(x), 16, 8, 8) if self.fixed else x)) if self.training else logits


def auxiliary(**chosen: bool) -> Task:
    torch.manual_seed(0)
    examples = torch.randn(16, 1, 8, 8), torch.arange(16) % 3
    return Task("auxiliary", Auxiliary(**chosen), examples, examples)


def pruned(context: Context) -> nn.Module:
    strategy, model = PruneChannels(), context.task.copy_of_model()
    params = {p.name: p.default for p in strategy.parameters(context)} | {"ratio": 0.5, "round_to": 1}
    return strategy.apply(model, strategy.plan(model, params, context), context)


def test_an_auxiliary_head_is_narrowed_with_what_it_reads(open_task: OpenContext) -> None:
    context = open_task(auxiliary())
    smaller = pruned(context)
    assert (smaller.stem.out_channels, smaller.aux[0].in_channels, smaller.aux[0].out_channels) == (8, 8, 8)
    batch = context.train.take(torch.arange(16))
    returned = smaller.train()(batch.inputs)
    (context.task.loss_fn(returned, batch.targets) + returned.aux.square().mean()).backward()
    assert smaller.aux[0].weight.grad is not None
    left = PruneChannels().left_alone(context)
    assert {name for name, reason in left.items() if "training mode alone" in reason} == {"aux.0", "aux.2"}


@pytest.mark.parametrize("strategy", [PruneChannels(), Student()], ids=lambda strategy: strategy.name)
def test_what_can_be_repaired_is_declared_without_it(strategy: StructureStrategy, open_task: OpenContext) -> None:
    context = open_task(auxiliary())
    model = context.task.copy_of_model()
    params = {p.name: p.default for p in strategy.parameters(context)} | {"ratio": 0.5, "width": 0.5}
    plan = strategy.plan(model, params, context)
    declared = strategy.counterparts(model, plan, context)
    smaller = strategy.apply(model, plan, context)
    check_declared(declared, smaller)
    assert {own.layer for own in declared.layers} == {"stem", "body", "head"}


def test_where_the_head_cannot_follow_its_channels_stay(open_task: OpenContext) -> None:
    smaller = pruned(open_task(auxiliary(fixed=True)))
    assert (smaller.stem.out_channels, smaller.body.out_channels) == (16, 8)
    assert smaller.train()(torch.randn(2, 1, 8, 8)).aux.shape == (2, 3)


def test_opening_the_task_says_what_runs_in_training_mode_alone() -> None:
    profile = HardwareProfile(name="fake", runtime="fake")
    (warning,) = (
        text
        for text in read_task(auxiliary(), profile, OnnxRuntime(), Path("reference.onnx"), 0).warnings
        if "training mode alone" in text
    )
    assert warning.startswith("aux ")

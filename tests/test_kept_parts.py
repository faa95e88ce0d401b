"""What a task keeps or its owner froze comes out as it went in, whatever strategy is tried; all else is changed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.structure import build
from autocompress.errors import UsageError
from autocompress.explore.space.ladders import default_recipe
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.kept_parts import KEPT_AS_FROZEN, KEPT_BY_NAME
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import Recipe, Step
from autocompress.task import Task
from autocompress.testing import tasks
from autocompress_plugins.shrinking.channel_graph import ChannelGraph

WIDTH, CLASSES = 48, 4
OpenQuickly = Callable[..., Any]


class Stages(nn.Module):
    """(N, 1, 8, 8) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.entry, self.stem = nn.Conv2d(1, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.first = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU())
        self.hidden, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(torch.relu(self.stem(torch.relu(self.entry(x))))))
        return self.head(torch.relu(self.hidden(x.mean((2, 3)))))


def task_of(examples: Callable[[int, int], Any], model: nn.Module, **given: Any) -> Task:
    train, val = examples(64, 1), examples(32, 2)
    return Task(name="kept", model=model.eval(), train=train, val=val, **given)


def frozen_first() -> nn.Module:
    model = Stages()
    model.first.requires_grad_(False)
    return model


KEPT: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "named": (Stages, {"keep": ["first"]}, KEPT_BY_NAME),
    "frozen": (frozen_first, {}, KEPT_AS_FROZEN),
}


@pytest.mark.parametrize("kind", KEPT)
def test_no_strategy_changes_the_size_of_what_is_kept_and_each_says_so(
    kind: str, examples: Any, open_quickly: OpenQuickly, shared_plugins: PluginSet, tmp_path: Path
) -> None:
    make, given, reason = KEPT[kind]
    here = open_quickly(task_of(examples, make(), **given), shared_plugins, tmp_path, tuple(shared_plugins.strategies))
    opened = here.task
    space = Space.of(SpaceFile(name="all"), here.opening.applicable, here.opening.refused)
    shapes = {name: value.shape for name, value in opened.context.model.first.state_dict().items()}
    smaller = 0
    for strategy in space.structural:
        strongest = {p.name: p.choices[-1] if p.by_strength else p.default for p in strategy.parameters}
        step = Step.of(strategy.name, **strongest)
        model, _ = build(default_recipe(space, [step]), opened.context, opened.plugins)
        assert {name: value.shape for name, value in model.get_submodule("first").state_dict().items()} == shapes
        sizes = [sum(p.numel() for p in each.parameters()) for each in (model, opened.context.model)]
        smaller += sizes[0] < sizes[1]
        left = shared_plugins.strategy(strategy.name).left_alone(opened.context)  # type: ignore[attr-defined]
        if strategy.name in ("prune_channels", "factorize"):
            assert any(name.startswith("first") and why.startswith(reason) for name, why in left.items()), left
    assert smaller >= 2, "what is not kept is made smaller"


class Sequences(nn.Module):
    """(N, 1, 8, 8), read as eight steps -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.hidden, self.head = nn.Linear(32, 64), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lstm(x[:, 0])[0]
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(torch.relu(self.hidden(x.mean(1))))


@pytest.mark.parametrize("kept", ["lstm", "attention"])
def test_layers_that_are_exchanged_to_be_pruned_stay_kept(
    kept: str, examples: Any, open_quickly: OpenQuickly, shared_plugins: PluginSet, tmp_path: Path
) -> None:
    kinds = ("prune_recurrent", "prune_attention")
    here = open_quickly(task_of(examples, Sequences(), keep=[kept]), shared_plugins, tmp_path, kinds)
    groups = {
        group.name
        for kind in kinds
        for group in shared_plugins.strategy(kind).shrinkable_groups(here.task.context)  # type: ignore[attr-defined]
    }
    other = {"lstm": "hidden", "attention": "hidden"}[kept]
    assert other in groups
    assert not any(name.startswith(kept) for name in groups)


@pytest.mark.parametrize("unfreeze", [False, True])
def test_what_is_frozen_is_not_trained_unless_the_task_says_so(
    unfreeze: bool, examples: Any, open_quickly: OpenQuickly, shared_plugins: PluginSet, tmp_path: Path
) -> None:
    task = task_of(examples, frozen_first(), unfreeze=unfreeze)
    here = open_quickly(task, shared_plugins, tmp_path, ("finetune",))
    space = Space.of(SpaceFile(name="all"), here.opening.applicable, here.opening.refused)
    (finetune,) = (a for a in space.training if a.name == "finetune")
    recipe = default_recipe(space, [Step.of(finetune.name)])
    outcome = here.evaluate(recipe, examples=64)
    trained = here.task.store.load(outcome.checkpoint)
    before = here.task.context.model.state_dict()
    same = {name: torch.equal(before[name], value) for name, value in trained.items() if value.is_floating_point()}
    assert not same["head.weight"]
    assert all(equal for name, equal in same.items() if name.startswith("first.")) is not unfreeze
    warned = [text for text in here.opening.warnings if "frozen" in text]
    assert bool(warned) is not unfreeze


def test_what_is_frozen_stays_as_it_is_when_the_rest_is_pruned_repaired_and_trained(
    examples: Any, open_quickly: OpenQuickly, shared_plugins: PluginSet, tmp_path: Path
) -> None:
    model = frozen_first()
    model.first[1].running_mean.uniform_(-1, 1)  # type: ignore[operator,union-attr]
    here = open_quickly(task_of(examples, model), shared_plugins, tmp_path, ("prune_channels", "finetune"))
    space = Space.of(SpaceFile(name="all"), here.opening.applicable, here.opening.refused)
    pruning = next(a for a in space.structural if a.name == "prune_channels")
    step = Step.of(pruning.name, **{p.name: p.default for p in pruning.parameters})
    outcome = here.evaluate(default_recipe(space, [step]), examples=64)
    trained, before = here.task.store.load(outcome.checkpoint), here.task.context.model.state_dict()
    assert trained["entry.weight"].shape != before["entry.weight"].shape, "what it reads is another one"
    for name in (name for name in before if name.startswith("first.") and before[name].is_floating_point()):
        assert torch.equal(trained[name], before[name]), name


class Looking(nn.Module):
    """(N, 1, 8, 8), read as eight places -> (N, 4), with an attention and a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(8, 16), tasks.Attention(16, 4)
        self.scale, self.up, self.head = Scale(), nn.Linear(16, 64), nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x[:, 0])
        x = x + self.attention(x)
        return self.head(self.scale(torch.relu(self.up(x)).mean(1)))


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(64))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


@pytest.mark.parametrize(("keep", "others"), [("attention", {"up"}), ("scale", {"attention"})])
def test_attention_by_hand_and_parameters_of_ones_own_are_kept_too(keep: str, others: set[str], examples: Any) -> None:
    for given, freeze in (({"keep": [keep]}, False), ({}, True)):
        model = Looking()
        model.get_submodule(keep).requires_grad_(not freeze)
        copied = task_of(examples, model, **given).copy_of_model()
        _, found = ChannelGraph().find_groups(copied, examples(4, 1)[0])
        roots = {group.root for group in found.groups}
        assert roots >= others
        if not freeze or keep == "attention":  # a frozen scale is as wide as what it scales, as a norm is
            assert not any(root.startswith(keep) for root in roots)
            assert keep != "scale" or "up" not in roots


def test_fresh_weights_are_not_drawn_for_what_is_frozen(
    examples: Any, open_quickly: OpenQuickly, shared_plugins: PluginSet, tmp_path: Path
) -> None:
    here = open_quickly(task_of(examples, frozen_first()), shared_plugins, tmp_path, ("student", "finetune"))
    recipe = Recipe((Step.of("student", width=0.5, dropped=0, weights="fresh"),))
    made, _ = build(recipe, here.task.context, here.task.plugins)
    before = here.task.context.model
    assert torch.equal(made.get_parameter("first.0.weight"), before.get_parameter("first.0.weight"))
    assert not made.get_parameter("first.0.weight").requires_grad


def test_a_model_that_is_frozen_whole_is_one_that_is_ready_for_use(examples: Any) -> None:
    model = Stages()
    model.requires_grad_(False)
    copied = task_of(examples, model).copy_of_model()
    assert all(parameter.requires_grad for parameter in copied.parameters())
    assert not any(parameter.requires_grad for parameter in model.parameters()), "the user's own stays"


@pytest.mark.parametrize("strategy", ["quantize_static", "quantize_dynamic", "quantize_weights"])
def test_what_is_kept_is_not_quantized(
    strategy: str, examples: Any, open_quickly: OpenQuickly, shared_plugins: PluginSet, tmp_path: Path
) -> None:
    """Counted by weights that are left in float: those of the hidden layer are, and the head's are not."""

    def int8_weights(keep: list[str]) -> list[tuple[int, ...]]:
        task = task_of(examples, Stages(), keep=keep)
        here = open_quickly(task, shared_plugins, tmp_path / str(len(keep)), (strategy,))
        plugin, context = shared_plugins.strategy(strategy), here.task.context
        target = tmp_path / f"{len(keep)}.onnx"
        plugin.apply(here.task.folder.reference, target, plugin.variants(context)[0], context)  # type: ignore[attr-defined]
        graph = onnx.load(str(target)).graph
        return [tuple(sorted(t.dims)) for t in graph.initializer if t.data_type != onnx.TensorProto.FLOAT and t.dims]

    every, fewer = int8_weights([]), int8_weights(["hidden"])
    assert len(fewer) < len(every)
    assert fewer


def test_a_name_that_is_no_module_is_told_with_the_nearest(examples: Any) -> None:
    with pytest.raises(UsageError, match=r"unknown module in Task.keep 'frist': did you mean 'first'"):
        task_of(examples, Stages(), keep=["frist"]).copy_of_model()
    with pytest.raises(UsageError, match=r"Task.keep must be a list of names"):
        replace(task_of(examples, Stages()), keep="first")

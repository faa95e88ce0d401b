"""Relational distillation: the two relations by hand, what they do not see, and what they do in the training loop."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, TrainHook
from autocompress_plugins.distillation.distill_relations import DistillRelations
from autocompress_plugins.model_runs import inner_outputs

LAYERS = ("bn", "conv2")  # of the tiny model
KINDS = ("similarity", "attention")
each_kind = pytest.mark.parametrize("kind", KINDS)


def relations(context: Context, kind: str, weight: float = 1.0) -> TrainHook:
    return DistillRelations().hook({"kind": kind, "weight": weight}, context)


def loss(context: Context, step_of: Any, kind: str, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    hook = relations(context, kind)
    hook.wrap(context.task.copy_of_model())
    return float(hook.loss(step_of(0.0, ours, theirs)).value)


def random_maps(channels: tuple[int, int], seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = zip(LAYERS, channels, (8, 4), strict=True)
    return {name: torch.randn(5, c, side, side, generator=generator) for name, c, side in sizes}


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row]


def similarity_by_hand(maps: np.ndarray) -> list[list[float]]:
    return [unit([float((one * other).sum()) for other in maps]) for one in maps]


def attention_by_hand(maps: np.ndarray) -> list[list[float]]:
    _, channels, height, width = maps.shape
    places = list(np.ndindex(height, width))
    return [unit([sum(float(one[c, i, j]) ** 2 for c in range(channels)) for i, j in places]) for one in maps]


@pytest.mark.parametrize(
    ("kind", "by_hand"), [("similarity", similarity_by_hand), ("attention", attention_by_hand)], ids=KINDS
)
def test_loss_is_the_papers(kind: str, by_hand: Any, tiny_context: Context, step_of: Any) -> None:
    ours, theirs = random_maps((4, 8), 0), random_maps((8, 16), 1)
    distances = []
    for name in LAYERS:
        rows = zip(by_hand(ours[name].numpy()), by_hand(theirs[name].numpy()), strict=True)
        distances.append(np.mean([sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) for pair in rows]))
    assert loss(tiny_context, step_of, kind, ours, theirs) == pytest.approx(np.mean(distances), rel=1e-4)


@each_kind
def test_the_order_and_the_size_of_channels_do_not_matter(kind: str, tiny_context: Context, step_of: Any) -> None:
    theirs = random_maps((8, 16), 0)
    ours = {name: 3 * value.flip(1) for name, value in theirs.items()}
    assert loss(tiny_context, step_of, kind, ours, theirs) == pytest.approx(0, abs=1e-6)


def test_attention_to_other_places_is_a_loss_of_two(tiny_context: Context, step_of: Any) -> None:
    theirs, ours = random_maps((8, 16), 0), random_maps((4, 8), 1)
    for name in LAYERS:
        theirs[name][:, :, ::2] = 0
        ours[name][:, :, 1::2] = 0
    assert loss(tiny_context, step_of, "attention", ours, theirs) == pytest.approx(2)


@each_kind
def test_layers_that_are_silent_give_finite_gradients(kind: str, tiny_context: Context, step_of: Any) -> None:
    hook = relations(tiny_context, kind)
    hook.wrap(tiny_context.task.copy_of_model())
    ours = {name: torch.zeros_like(value).requires_grad_() for name, value in random_maps((4, 8), 0).items()}
    hook.loss(step_of(0.0, ours, random_maps((8, 16), 1))).value.backward()
    assert all(torch.isfinite(value.grad).all() for value in ours.values())


# -- where it applies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "kinds"), [("images", KINDS), ("sequences", KINDS), ("regression", KINDS[:1])], indirect=["form"]
)
def test_attention_is_offered_where_there_are_places(form: Any, kinds: tuple[str, ...], make_context: Any) -> None:
    context = make_context(form[0])
    assert DistillRelations().parameters(context)[0].choices == kinds
    if "attention" not in kinds:
        with pytest.raises(CandidateFailed):
            relations(context, "attention").wrap(form[1])


# -- what it does ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def after(tiny_context: Context, tiny_class: type[nn.Module], trained: Any) -> Callable[[TrainHook], dict[str, Tensor]]:
    """``after(hook)``: what the inner layers of a student trained with it give for new examples."""

    def train(hook: TrainHook) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return inner_outputs(trained(tiny_context, tiny_class(4), [hook], 2048), tiny_context.task.val[0], LAYERS)

    return train


@pytest.fixture(scope="module")
def labels_only(after: Callable[[TrainHook], dict[str, Tensor]]) -> dict[str, Tensor]:
    return after(TrainHook())


@each_kind
def test_relations_come_closer_to_the_references_on_new_examples(
    kind: str, tiny_context: Context, after: Any, labels_only: dict[str, Tensor], step_of: Any
) -> None:
    theirs = inner_outputs(tiny_context.model, tiny_context.task.val[0], LAYERS)
    ours = after(relations(tiny_context, kind, 3.0))
    got, without = (loss(tiny_context, step_of, kind, own, theirs) for own in (ours, labels_only))
    assert got < 0.8 * without


def test_the_reference_inside_helps_where_labels_are_wrong(wrong_labels: Any, labels_alone: float) -> None:
    """By similarity it does so beside the other distillations."""
    assert wrong_labels(lambda context: [relations(context, "attention")]) > labels_alone + 0.02

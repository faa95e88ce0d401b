"""What an output is, is told from the targets and from the numbers that the model gives."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autocompress.data import PerExample
from autocompress.task import Task
from autocompress_plugins.distillation.output_kinds import output_kinds

N = 32
X = torch.randn(N, 8, generator=torch.Generator().manual_seed(1))
LABELS, GRADES = torch.arange(N) % 3, torch.arange(N) % 10
BOXES = PerExample({"boxes": torch.rand(1 + i % 2, 4)} for i in range(N))


class Made(nn.Module):
    """Outputs made of the 8 numbers of an example by ``make``, which is given a layer's as well (N, 48)."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.make = nn.Linear(8, 48), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.layer(x))


def squared(returned: Any, targets: Any) -> Tensor:
    raise AssertionError("nothing is trained here")


def kinds(make: Callable[[Tensor], Any], targets: Any, **others: Any) -> Mapping[str, tuple[str, str | None]]:
    torch.manual_seed(0)
    pair = (X, targets)
    task = Task("made", Made(make), pair, pair, metric=lambda returned, targets: 0.0, loss=squared, **others)
    return {name: (found.kind.value, found.target) for name, found in output_kinds(task).items()}


LONE = {
    "a class an example": (lambda h: h[:, :3], LABELS, ("class logits", "target")),
    "soft labels": (lambda h: h[:, :3], F.one_hot(LABELS, 3).float(), ("class logits", "target")),
    "a class a place": (
        lambda h: h.view(len(h), 3, 4, 4),
        LABELS.view(N, 1, 1).expand(N, 4, 4),
        ("class logits", "target"),
    ),
    "a class a frame": (lambda h: h.view(len(h), 16, 3), LABELS.view(N, 1).expand(N, 16), ("class logits", "target")),
    "log probabilities of frames": (
        lambda h: h.view(len(h), 16, 3).log_softmax(2),
        (LABELS[:, None], LABELS),
        ("class logits", None),
    ),
    "numbers": (lambda h: h[:, :3], torch.randn(N, 3), ("numbers", "target")),
    "one number": (lambda h: h[:, :1], torch.randn(N), ("numbers", "target")),
    "measures without targets": (lambda h: h[:, :2], GRADES, ("numbers", None)),
    "more labels than classes": (lambda h: h, torch.arange(N) * 7, ("an embedding", None)),
    "rows of length 1": (lambda h: F.normalize(h[:, :3]), LABELS, ("an embedding", None)),
    "a map": (lambda h: h.view(len(h), 3, 4, 4), BOXES, ("a map", None)),
}


@pytest.mark.parametrize("name", LONE)
def test_a_lone_output(name: str) -> None:
    make, targets, expected = LONE[name]
    assert kinds(make, targets) == {"output": expected}


def test_heads_find_their_targets_by_name_and_the_others_in_order() -> None:
    def make(h: Tensor) -> dict[str, Tensor]:
        return {"grade": h[:, :10], "kind": h[:, :10], "size": h[:, :1]}

    found = kinds(make, {"kind": LABELS, "size": torch.randn(N, 1), "other": GRADES})
    assert {name: target for name, (_, target) in found.items()} == {"grade": "other", "kind": "kind", "size": "size"}


def test_heads_of_one_size_take_the_targets_in_order_and_share_what_is_left() -> None:
    found = kinds(lambda h: (h[:, :10], h[:, 10:20], h[:, 20:30]), (GRADES, LABELS))
    assert [target for _, target in found.values()] == ["target_0", "target_1", "target_0"]


def test_what_no_example_or_no_float_is_in_is_told_apart() -> None:
    found = kinds(lambda h: (h[:, :3], h[:, :3].argmax(1), torch.ones(5)), LABELS)
    assert [kind for kind, _ in found.values()] == ["class logits", "no floating point", "the same for every batch"]


def test_the_task_names_logits_that_nothing_else_tells() -> None:
    assert kinds(lambda h: {"frames": h.view(len(h), 16, 3)}, BOXES, distill="frames")["frames"][0] == "class logits"


def test_labels_of_places_that_do_not_count_may_be_any_number() -> None:
    border = LABELS.clone()
    border[::3] = 255
    assert kinds(lambda h: h[:, :3], border) == {"output": ("class logits", "target")}

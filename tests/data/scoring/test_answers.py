"""Accuracy: exact, with Wilson's interval, examples counted and not their places."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from autocompress.data import Batch, OutputLayout, ScoredSet, Split
from autocompress.data.scoring.answers import wilson
from autocompress.errors import CandidateFailed
from autocompress.task import Task
from tests.data.scoring.sets import kept_of, set_of


def answers(classes: Sequence[int], kinds: int = 2) -> Tensor:
    return torch.eye(kinds)[torch.tensor(classes)]


@pytest.mark.parametrize(
    ("share", "size", "low", "high"),
    [
        (0.5, 100, 0.4038, 0.5962),
        (0.9, 10, 0.5958, 0.9821),
        (1.0, 10, 0.7225, 1.0),
        (0.0, 10, 0.0, 0.2775),
        (0.9344, 10_000, 0.9294, 0.9391),
        (1.0, 1, 0.2065, 1.0),
    ],
)
def test_wilson_against_known_values(share: float, size: int, low: float, high: float):
    assert wilson(share, size) == pytest.approx((low, high), abs=1e-4)


def test_accuracy_has_wilsons_interval():
    outputs = answers([0] * 90 + [1] * 10)
    examples = set_of(outputs, torch.zeros(100, dtype=torch.int64))
    score = examples.score(kept_of(examples, outputs))
    assert score.val == pytest.approx(0.9)
    assert (score.val_low, score.val_high) == pytest.approx(wilson(0.9, 100), abs=2e-3)
    assert score.test is None


def test_pixels_of_images_that_are_all_right_each_count():
    outputs = torch.zeros(2, 3, 4, 5)
    outputs[:, 2] = 1.0
    examples = set_of(outputs, torch.full((2, 4, 5), 2))
    score = examples.score(kept_of(examples, outputs))
    assert score.val == 1.0
    assert wilson(1.0, 2)[0] <= score.val_low <= wilson(1.0, 40)[0]


def test_intervals_count_examples_and_not_their_pixels():
    """Half of the images are right in all their pixels, the others in none."""
    outputs = torch.zeros(40, 2, 10, 10)
    outputs[:20, 1] = 1.0
    outputs[20:, 0] = 1.0
    examples = set_of(outputs, torch.ones(40, 10, 10, dtype=torch.int64))
    score = examples.score(kept_of(examples, outputs))
    assert (score.val_low, score.val_high) == pytest.approx(wilson(0.5, 40), abs=0.01)


def test_places_with_the_ignored_label_do_not_count():
    outputs = answers([0, 1, 0, 1])
    examples = set_of(outputs, torch.tensor([0, 0, 0, -100]))
    assert examples.value(kept_of(examples, outputs)) == pytest.approx(2 / 3)


def test_accuracy_of_a_sequence_follows_cross_entropy():
    outputs = torch.zeros(2, 3, 5)
    outputs[:, 1] = 1.0
    targets = torch.ones(2, 5, dtype=torch.int64)
    nn.functional.cross_entropy(outputs, targets)  # the shapes that the default loss takes
    examples = set_of(outputs, targets)
    assert examples.value(kept_of(examples, outputs)) == 1.0


def test_a_class_above_255_is_kept_as_it_is():
    outputs = torch.zeros(3, 300)
    outputs[:, 299] = 1.0
    examples = set_of(outputs, torch.tensor([299, 43, 299]))
    assert examples.value(kept_of(examples, outputs)) == pytest.approx(2 / 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_what_pads_soft_labels_does_not_count(dtype: torch.dtype):
    """Two places and six, each answered with the first class: right in one and in three of them."""
    short, long = (torch.eye(3)[torch.tensor(labels)].T[None] for labels in ([0, 1], [0, 1, 0, 2, 0, 1]))
    task = Task(name="t", model=nn.Identity(), train=None, val=None)
    batches = [Batch(torch.zeros(1, 3, n), labels.to(dtype)) for n, labels in ((2, short), (6, long))]
    outputs = [batch.inputs.index_fill(1, torch.tensor(0), 1.0) for batch in batches]
    layout = OutputLayout(outputs[0], ("output",), {"output": 0}, "output", varying={"output": {2: "length"}})
    examples = ScoredSet(task, Split("val", 2, lambda indices: batches[0]), layout)
    kept = examples.kept(({"output": rows}, batch.targets) for rows, batch in zip(outputs, batches, strict=True))
    assert examples.value(kept) == pytest.approx(4 / 8)


def test_where_no_label_counts_that_is_said():
    outputs = answers([0, 1, 1])
    examples = set_of(outputs, torch.full((3,), -100))
    with pytest.raises(CandidateFailed, match="none of the labels counts"):
        examples.score(kept_of(examples, outputs))

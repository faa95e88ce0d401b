"""A metric whose state adds up: what is kept is small, and says the same as the outputs."""

import pytest
import torch
from torch import Tensor
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryF1Score,
    MulticlassAUROC,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
)
from torchmetrics.regression import MeanSquaredError

from autocompress.data.scoring.sums import BLOCKS, adds_up
from tests.data.scoring.sets import kept_of, set_of


def maps(count: int, right: float, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Outputs (N, C, 6, 6) and labels (N, 6, 6), of which about this share is answered."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count, 6, 6), generator=torch.Generator().manual_seed(99))
    noise = torch.randint(classes, (count, 6, 6), generator=generator)
    answered = torch.where(torch.rand(count, 6, 6, generator=generator) < right, labels, noise)
    return torch.nn.functional.one_hot(answered, classes).movedim(-1, 1).float(), labels


@pytest.mark.parametrize("at_once", [1, 7, 64, 10_000])
@pytest.mark.parametrize("count", [40, BLOCKS + 1, 1300])
def test_blocks_say_the_same_as_all_outputs_whatever_the_pieces(count: int, at_once: int):
    outputs, labels = maps(count, 0.8)
    examples = set_of(outputs, labels, MulticlassJaccardIndex(num_classes=4))
    kept = kept_of(examples, outputs, at_once)
    assert examples.value(kept) == pytest.approx(float(MulticlassJaccardIndex(num_classes=4)(outputs, labels)))
    assert all(len(states) <= BLOCKS for states in kept.values())
    assert all(torch.equal(kept[name], states) for name, states in kept_of(examples, outputs).items())


def test_the_interval_and_the_error_of_a_difference_are_about_those_of_examples():
    """As the bootstrap of a metric that is given all outputs finds them."""
    (one, labels), (other, _) = maps(200, 0.8), maps(200, 0.7, seed=1)
    metric = MulticlassJaccardIndex(num_classes=4)
    streamed = set_of(one, labels, metric)
    whole = set_of(one, labels, lambda outputs, targets: metric(outputs, targets))
    found, wanted = (s.score(kept_of(s, one)) for s in (streamed, whole))
    assert (found.val, found.val_low, found.val_high) == pytest.approx((wanted.val, wanted.val_low, wanted.val_high))
    apart, known = (s.difference(kept_of(s, one), kept_of(s, other)) for s in (streamed, whole))
    assert apart == pytest.approx(known, rel=1e-4)


@pytest.mark.parametrize(("count", "is_cut"), [(300, True), (1300, False)])
def test_a_sample_is_cut_where_examples_are_kept_alone(count: int, is_cut: bool):
    outputs, labels = maps(count, 0.8)
    examples = set_of(outputs, labels, MulticlassF1Score(num_classes=4))
    sample = examples.sampled(100)
    part = examples.sample_of(kept_of(examples, outputs), 100)
    assert (part is not None) is is_cut
    if part is not None:
        alone = kept_of(sample, outputs[torch.arange(100) * (count - 1) // 99])
        assert sample.value(part) == pytest.approx(sample.value(alone))


def test_logits_are_taken_for_what_they_are_in_each_example():
    """An example's own logit may lie between 0 and 1, as a probability does."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (200,), generator=generator)
    logits = targets + 0.5 * torch.randn(200, generator=generator) - 0.5
    examples = set_of(logits, targets, BinaryF1Score())
    assert examples.value(kept_of(examples, logits)) == pytest.approx(float(BinaryF1Score()(logits, targets)))


def test_the_users_own_object_is_not_touched():
    metric = MulticlassF1Score(num_classes=4)
    outputs, labels = maps(30, 0.8)
    metric.update(outputs[:10], labels[:10])
    before = float(metric.compute())
    examples = set_of(outputs, labels, metric)
    examples.score(kept_of(examples, outputs))
    assert float(metric.compute()) == before
    metric.update(outputs[10:20], labels[10:20])
    assert float(metric.compute()) == float(MulticlassF1Score(num_classes=4)(outputs[:20], labels[:20]))


def test_chance_is_told_from_a_sample_of_outputs():
    outputs, labels = maps(600, 0.9)
    examples = set_of(outputs, labels, "mean_iou")
    sample = examples.permutable()
    assert sample is not None
    kept = kept_of(sample, outputs[torch.arange(len(sample)) * 599 // (len(sample) - 1)])
    found = sample.chance(kept)
    assert found is not None
    assert found.score == pytest.approx(1 / 7, abs=0.02)  # a quarter of the pixels of each class meets


@pytest.mark.parametrize(
    ("metric", "adds"),
    [
        (MulticlassF1Score(num_classes=3), True),
        (MeanSquaredError(squared=False), True),
        (MulticlassAUROC(num_classes=3, thresholds=20), True),
        (BinaryAUROC(), False),
        (lambda outputs, targets: 0.0, False),
    ],
)
def test_what_adds_up_is_read_from_the_metric(metric: object, adds: bool):
    assert adds_up(metric) is adds


def test_a_large_state_has_fewer_blocks():
    metric = MulticlassConfusionMatrix(num_classes=400)
    outputs = torch.zeros(300, 400)
    examples = set_of(outputs, torch.zeros(300, dtype=torch.int64), metric)
    kept = kept_of(examples, outputs)
    assert sum(t.element_size() * t.numel() for t in kept.values()) <= 80 << 20
    assert all(len(states) < 300 for states in kept.values())

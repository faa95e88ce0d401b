"""A score with its interval, and how far two models are apart on the same examples."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autocompress.data import compared_score, paired_difference, score_of
from autocompress.data.scores import wilson
from autocompress.evaluation import Score
from autocompress.task import Task


def first_column_mean(outputs: Tensor, targets: Tensor) -> float:
    return float(outputs[:, 0].mean())


def make(metric: Any = "accuracy", **others: Any) -> Task:
    return Task(name="t", model=nn.Identity(), train=None, val=None, metric=metric, **others)


def answers(classes: Sequence[int], kinds: int = 2) -> Tensor:
    return torch.eye(kinds)[torch.tensor(classes)]


# -- intervals ---------------------------------------------------------------------------------------------------------


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
    targets = torch.zeros(100, dtype=torch.int64)
    score = score_of(make(), answers([0] * 90 + [1] * 10), targets)
    assert score.val == pytest.approx(0.9)
    assert (score.val_low, score.val_high) == pytest.approx(wilson(0.9, 100))
    assert score.test is None


def test_pixels_each_count_as_an_example():
    outputs = torch.zeros(2, 3, 4, 5)
    outputs[:, 2] = 1.0
    score = score_of(make(), outputs, torch.full((2, 4, 5), 2))
    assert score.val == 1.0
    assert score.val_low == pytest.approx(wilson(1.0, 40)[0])


def test_other_metrics_have_a_bootstrap_interval():
    outputs = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    score = score_of(make(first_column_mean), outputs, torch.zeros(400))
    half = 1.96 * float(outputs.std()) / math.sqrt(400)
    assert score.val == pytest.approx(float(outputs.mean()))
    assert score.val_low < score.val < score.val_high
    assert score.val_high - score.val_low == pytest.approx(2 * half, rel=0.25)


def test_bootstrap_is_decided_by_the_seed():
    outputs = torch.randn(50, 1)
    one, same, other = (score_of(make(first_column_mean), outputs, torch.zeros(50), seed) for seed in (1, 1, 2))
    assert one == same
    assert one.val == other.val
    assert (one.val_low, one.val_high) != (other.val_low, other.val_high)


def test_metric_that_answers_nan_is_passed_on():
    score = score_of(make(lambda outputs, targets: math.nan), torch.zeros(3, 2), torch.zeros(3))
    assert math.isnan(score.val)


def area(outputs: Tensor, targets: Tensor) -> float:
    """Like an area under a curve: unknown when the examples are of one class."""
    return math.nan if targets.unique().numel() < 2 else 0.75


def strict_area(outputs: Tensor, targets: Tensor) -> float:
    if targets.unique().numel() < 2:
        raise ValueError("only one class present")
    return 0.75


@pytest.mark.parametrize("metric", [area, strict_area], ids=["nan", "raises"])
def test_resample_that_a_metric_cannot_score_is_left_out(metric: Callable[[Tensor, Tensor], float]):
    score = score_of(make(metric), torch.zeros(6, 2), torch.tensor([0, 0, 0, 0, 0, 1]))
    assert (score.val, score.val_low, score.val_high) == (0.75, 0.75, 0.75)


def test_accuracy_of_a_sequence_follows_cross_entropy():
    outputs = torch.zeros(2, 3, 5)
    outputs[:, 1] = 1.0
    targets = torch.ones(2, 5, dtype=torch.int64)
    nn.functional.cross_entropy(outputs, targets)  # the shapes that the default loss takes
    assert score_of(make(), outputs, targets).val == 1.0


# -- comparing two models ----------------------------------------------------------------------------------------------


def test_difference_of_accuracies_and_its_standard_error():
    targets = torch.zeros(100, dtype=torch.int64)
    one = answers([0] * 95 + [1] * 5)
    other = answers([0] * 90 + [1] * 10)
    difference, error = paired_difference(make(), one, other, targets)
    apart = np.array([1.0] * 5 + [0.0] * 95)
    assert difference == pytest.approx(0.05)
    assert error == pytest.approx(apart.std(ddof=1) / 10)


def test_difference_is_signed_and_none_between_equals():
    targets = torch.zeros(10, dtype=torch.int64)
    one, other = answers([0] * 9 + [1]), answers([0] * 7 + [1] * 3)
    assert paired_difference(make(), other, one, targets)[0] == pytest.approx(-0.2)
    assert paired_difference(make(), one, one, targets)[0] == 0.0


@pytest.mark.parametrize("size", [10, 400])
def test_an_error_counts_at_least_one_example_that_disagrees(size: int):
    """That all agree does not say that the next one will."""
    targets = torch.zeros(size, dtype=torch.int64)
    one, other = answers([0] * size), answers([0] * (size - 1) + [1])
    assert paired_difference(make(), one, one, targets) == (0.0, 1 / size)
    assert paired_difference(make(), one, other, targets)[1] == pytest.approx(1 / size, rel=0.06)


def test_of_one_example_nothing_is_known():
    assert paired_difference(make(), answers([0]), answers([0]), torch.zeros(1, dtype=torch.int64)) == (0.0, 1.0)


def test_pairing_uses_that_both_see_the_same_examples():
    """Two models that err on the same examples are told apart by far less than two that err at random."""
    targets = torch.zeros(1000, dtype=torch.int64)
    wrong = torch.zeros(1000, dtype=torch.int64)
    wrong[:300] = 1
    alike = wrong.clone()
    alike[:5] = 0
    elsewhere = wrong.flip(0).clone()
    elsewhere[-5:] = 0
    near, far = (
        paired_difference(make(), answers(m.tolist()), answers(wrong.tolist()), targets) for m in (alike, elsewhere)
    )
    assert near[0] == pytest.approx(far[0])
    assert near[1] < far[1] / 5


def test_other_metrics_are_compared_on_the_same_resamples():
    base = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    difference, error = paired_difference(make(first_column_mean), base + 0.01, base, torch.zeros(300))
    assert difference == pytest.approx(0.01, abs=1e-6)
    assert error == pytest.approx(0.0, abs=1e-6)  # independent resamples would answer about 0.08
    noise = torch.randn(300, 1, generator=torch.Generator().manual_seed(1))
    _, error = paired_difference(make(first_column_mean), base + noise, base, torch.zeros(300))
    assert error == pytest.approx(1 / math.sqrt(300), rel=0.25)


# -- told from a sample ------------------------------------------------------------------------------------------------


def test_a_score_told_from_a_sample_is_nearer_than_the_samples_own() -> None:
    """Models that err on the same examples: how hard a sample is cancels out."""
    task, generator = make(), torch.Generator().manual_seed(0)
    hard = torch.rand(20_000, generator=generator) < 0.1
    wrong = hard | (torch.rand(20_000, generator=generator) < 0.02)
    targets = torch.zeros(20_000, dtype=torch.long)
    own, reference = answers(wrong.long().tolist()), answers(hard.long().tolist())
    whole, truth = score_of(task, reference, targets), score_of(task, own, targets).val
    told, plain, held = [], [], 0
    for number in range(60):
        drawn = torch.randperm(20_000, generator=torch.Generator().manual_seed(number))[:500]
        score = compared_score(task, own[drawn], reference[drawn], targets[drawn], whole)
        told.append(abs(score.val - truth))
        plain.append(abs(score_of(task, own[drawn], targets[drawn]).val - truth))
        held += score.val_low <= truth <= score.val_high
    assert np.mean(told) < 0.6 * np.mean(plain)
    assert held >= 52
    assert score.sampled == 500


def test_a_score_told_from_a_sample_has_at_least_the_error_of_the_references() -> None:
    task, targets = make(), torch.zeros(100, dtype=torch.long)
    same = answers([0] * 90 + [1] * 10)
    found = compared_score(task, same, same, targets, Score(0.9, 0.88, 0.92))
    assert found.val == 0.9
    assert found.error > Score(0.9, 0.88, 0.92).error

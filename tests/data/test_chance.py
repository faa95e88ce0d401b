"""What outputs score by chance, and which files keep half of the reference's lead on it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.data import chance_score, keeps_half_the_lead, score_of
from autocompress.evaluation import Chance, Score
from autocompress.task import Task


def make(metric: Any = "accuracy") -> Task:
    return Task(name="t", model=nn.Identity(), train=None, val=None, metric=metric)


def answers(shares: tuple[float, ...], size: int = 2000) -> Tensor:
    """Labels with these shares, in an order of their own."""
    counts = torch.tensor([round(share * size) for share in shares])
    labels = torch.repeat_interleave(torch.arange(len(shares)), counts)
    return labels[torch.randperm(size, generator=torch.Generator().manual_seed(int(counts[0])))]


def negative_mse(outputs: Tensor, targets: Tensor) -> float:
    return -float(nn.functional.mse_loss(outputs, targets))


@pytest.mark.parametrize("answered", [(0.8, 0.15, 0.05), (0.1, 0.1, 0.8), (1.0, 0.0, 0.0)])
def test_accuracy_by_chance_follows_the_shares_of_the_classes(answered: tuple[float, ...]):
    shares = (0.8, 0.15, 0.05)
    found = chance_score(make(), nn.functional.one_hot(answers(answered), 3).float(), answers(shares))
    assert found is not None
    constant = shares[answered.index(max(answered))]  # the one class that the mean output answers
    expected = max(constant, sum(p * q for p, q in zip(shares, answered, strict=True)))
    assert found.score == pytest.approx(expected, abs=0.006)
    assert found.error < 0.02


def test_chance_does_not_depend_on_how_right_the_outputs_are():
    targets = answers((0.7, 0.3))
    right, wrong = (nn.functional.one_hot(t, 2).float() for t in (targets, targets.flip(0)))
    one, other = chance_score(make(), right, targets), chance_score(make(), wrong, targets)
    assert one is not None
    assert other is not None
    assert score_of(make(), right, targets).val == 1.0
    assert one.score == pytest.approx(other.score, abs=0.01)


def test_a_regression_by_chance_errs_by_the_spread_of_targets_and_its_bias():
    """As the mean output does, given for every example."""
    targets = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    outputs = 0.8 * targets + 0.5
    found = chance_score(make(negative_mse), outputs, targets)
    assert found is not None
    assert found.score == pytest.approx(-(1 + 0.5**2), rel=0.05)
    assert negative_mse(outputs, targets) > found.score + 0.5


def test_the_error_is_how_far_one_permutation_lies_from_another():
    targets = answers((0.5, 0.5), 400)
    found = chance_score(make(), nn.functional.one_hot(targets, 2).float(), targets, permutations=400)
    assert found is not None
    assert found.error == pytest.approx(0.5 / math.sqrt(400), rel=0.2)


def test_examples_are_permuted_and_their_pixels_stay_together():
    """Each image is of one class, in all its pixels."""
    targets = (torch.arange(40) % 4)[:, None].expand(40, 9)
    seen: list[Tensor] = []

    def metric(outputs: Tensor, permuted: Tensor) -> float:
        seen.append(permuted)
        return 0.0

    chance_score(make(metric), torch.zeros(40, 4, 9), targets)
    assert all((permuted == permuted[:, :1]).all() for permuted in seen)
    assert all(permuted[:, 0].bincount().tolist() == [10] * 4 for permuted in seen)
    *permuted, _ = seen  # the last is of a constant answer
    assert not any(torch.equal(one, targets) for one in permuted)


def test_the_metric_is_called_so_often_and_the_seed_decides():
    calls: list[float] = []

    def metric(outputs: Tensor, targets: Tensor) -> float:
        calls.append(float(outputs @ targets))
        return calls[-1]

    def found(seed: int) -> Chance | None:
        return chance_score(make(metric), torch.arange(50.0), torch.arange(50.0), seed=seed, permutations=5)

    assert found(1) == found(1) != found(2)
    assert len(calls) == 3 * (5 + 1), "and once of the mean output"


def test_permutations_that_cannot_be_scored_are_left_out():
    calls = 0

    def metric(outputs: Tensor, targets: Tensor) -> float:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise ValueError("only one class present")
        return math.nan if calls % 3 == 1 else 0.25

    targets = torch.zeros(4)
    assert chance_score(make(metric), targets, targets) == Chance(0.25, 0.0)
    assert chance_score(make(metric), targets, targets, permutations=4) is None
    assert chance_score(make(lambda outputs, targets: math.inf), targets, targets) is None


# -- half of the lead --------------------------------------------------------------------------------------------------

REFERENCE = Score(0.9, 0.88, 0.92)
CHANCE = Chance(0.3, 0.01)


@pytest.mark.parametrize(("score", "keeps"), [(0.89, True), (0.61, True), (0.59, False), (0.2, False)])
def test_a_file_under_the_middle_between_the_reference_and_chance_does_not_keep_half(score: float, keeps: bool):
    assert keeps_half_the_lead(score, REFERENCE, CHANCE) is keeps


def test_the_middle_itself_is_half():
    assert keeps_half_the_lead(0.5, Score(0.75, 0.74, 0.76), Chance(0.25, 0.01))


@pytest.mark.parametrize(("score", "keeps"), [(-1.0, True), (-1.2, False)])
def test_scores_below_zero_have_a_middle_too(score: float, keeps: bool):
    assert keeps_half_the_lead(score, Score(-0.1, -0.12, -0.09), Chance(-2.0, 0.05)) is keeps


@pytest.mark.parametrize(
    ("reference", "chance"),
    [
        (REFERENCE, None),
        (Score(0.33, 0.29, 0.37), CHANCE),
        (REFERENCE, Chance(0.3, 0.4)),
        (Score(0.25, 0.24, 0.26), CHANCE),
        (Score(0.335, 0.31, 0.36), Chance(0.3, 0.0135)),
    ],
    ids=["chance is not known", "the reference's interval", "the spread of chance", "below chance", "both together"],
)
def test_without_a_lead_beyond_its_error_nothing_is_asked_for(reference: Score, chance: Chance | None):
    assert keeps_half_the_lead(0.0, reference, chance)


def test_a_small_lead_that_is_known_well_counts():
    assert not keeps_half_the_lead(0.3, Score(0.36, 0.34, 0.38), CHANCE)

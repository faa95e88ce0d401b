"""How far two models are apart on the same examples, what a sample tells, and what outputs score by chance."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import UsageError
from autocompress.evaluation import Chance, Score
from tests.data.scoring.sets import kept_of, set_of


def first_column_mean(outputs: Tensor, targets: Tensor) -> float:
    return float(outputs[:, 0].mean())


def answers(classes: Sequence[int], kinds: int = 2) -> Tensor:
    return torch.eye(kinds)[torch.tensor(classes)]


def difference(one: Tensor, other: Tensor, targets: Tensor, metric: object = "accuracy") -> tuple[float, float]:
    examples = set_of(one, targets, metric)
    return examples.difference(kept_of(examples, one), kept_of(examples, other))


# -- comparing two models ----------------------------------------------------------------------------------------------


def test_difference_of_accuracies_and_its_standard_error():
    targets = torch.zeros(100, dtype=torch.int64)
    one = answers([0] * 95 + [1] * 5)
    other = answers([0] * 90 + [1] * 10)
    found, error = difference(one, other, targets)
    apart = np.array([1.0] * 5 + [0.0] * 95)
    assert found == pytest.approx(0.05)
    assert error == pytest.approx(apart.std(ddof=1) / 10)


def test_difference_is_signed_and_none_between_equals():
    targets = torch.zeros(10, dtype=torch.int64)
    one, other = answers([0] * 9 + [1]), answers([0] * 7 + [1] * 3)
    assert difference(other, one, targets)[0] == pytest.approx(-0.2)
    assert difference(one, one, targets)[0] == 0.0


@pytest.mark.parametrize("size", [10, 400])
def test_an_error_counts_at_least_one_example_that_disagrees(size: int):
    """That all agree does not say that the next one will."""
    targets = torch.zeros(size, dtype=torch.int64)
    one, other = answers([0] * size), answers([0] * (size - 1) + [1])
    assert difference(one, one, targets) == (0.0, 1 / size)
    assert difference(one, other, targets)[1] == pytest.approx(1 / size, rel=0.06)


def test_of_one_example_nothing_is_known():
    one = answers([0])
    assert difference(one, one, torch.zeros(1, dtype=torch.int64)) == (0.0, 1.0)


def test_pairing_uses_that_both_see_the_same_examples():
    """Two models that err on the same examples are told apart by far less than two that err at random."""
    targets = torch.zeros(1000, dtype=torch.int64)
    wrong = torch.zeros(1000, dtype=torch.int64)
    wrong[:300] = 1
    alike = wrong.clone()
    alike[:5] = 0
    elsewhere = wrong.flip(0).clone()
    elsewhere[-5:] = 0
    near, far = (difference(answers(m.tolist()), answers(wrong.tolist()), targets) for m in (alike, elsewhere))
    assert near[0] == pytest.approx(far[0])
    assert near[1] < far[1] / 5


def test_other_metrics_are_compared_on_the_same_resamples():
    base = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    found, error = difference(base + 0.01, base, torch.zeros(300), first_column_mean)
    assert found == pytest.approx(0.01, abs=1e-6)
    assert error == pytest.approx(0.0, abs=1e-6)  # independent resamples would answer about 0.08
    noise = torch.randn(300, 1, generator=torch.Generator().manual_seed(1))
    _, error = difference(base + noise, base, torch.zeros(300), first_column_mean)
    assert error == pytest.approx(1 / math.sqrt(300), rel=0.25)


# -- told from a sample ------------------------------------------------------------------------------------------------


def test_a_score_told_from_a_sample_is_nearer_than_the_samples_own() -> None:
    """Models that err on the same examples: how hard a sample is cancels out."""
    generator = torch.Generator().manual_seed(0)
    hard = torch.rand(20_000, generator=generator) < 0.1
    wrong = hard | (torch.rand(20_000, generator=generator) < 0.02)
    targets = torch.zeros(20_000, dtype=torch.long)
    own, reference = answers(wrong.long().tolist()), answers(hard.long().tolist())
    all_ = set_of(own, targets)
    whole, truth = all_.score(kept_of(all_, reference)), all_.value(kept_of(all_, own))
    told, plain, held = [], [], 0
    for number in range(60):
        drawn = torch.randperm(20_000, generator=torch.Generator().manual_seed(number))[:500]
        sample = set_of(own[drawn], targets[drawn])
        kept = kept_of(sample, own[drawn])
        score = sample.compared(kept, kept_of(sample, reference[drawn]), whole)
        told.append(abs(score.val - truth))
        plain.append(abs(sample.value(kept) - truth))
        held += score.val_low <= truth <= score.val_high
    assert np.mean(told) < 0.6 * np.mean(plain)
    assert held >= 52
    assert score.sampled == 500


def test_a_score_told_from_a_sample_has_at_least_the_error_of_the_references() -> None:
    same = answers([0] * 90 + [1] * 10)
    examples = set_of(same, torch.zeros(100, dtype=torch.long))
    kept = kept_of(examples, same)
    found = examples.compared(kept, kept, Score(0.9, 0.88, 0.92))
    assert found.val == 0.9
    assert found.error > Score(0.9, 0.88, 0.92).error


@pytest.mark.parametrize("metric", ["accuracy", first_column_mean])
def test_of_what_was_kept_of_all_a_sample_is_cut(metric: object) -> None:
    outputs = torch.randn(70, 2, generator=torch.Generator().manual_seed(0))
    examples = set_of(outputs, torch.arange(70) % 2, metric)
    sample = examples.sampled(10)
    part = examples.sample_of(kept_of(examples, outputs), 10)
    assert part is not None
    assert sample.value(part) == sample.value(kept_of(sample, outputs[torch.arange(10) * 69 // 9]))


# -- by chance ---------------------------------------------------------------------------------------------------------


def labels_with(shares: tuple[float, ...], size: int = 2000) -> Tensor:
    """Labels with these shares, in an order of their own."""
    counts = torch.tensor([round(share * size) for share in shares])
    labels = torch.repeat_interleave(torch.arange(len(shares)), counts)
    return labels[torch.randperm(size, generator=torch.Generator().manual_seed(int(counts[0])))]


def negative_mse(outputs: Tensor, targets: Tensor) -> float:
    return -float(nn.functional.mse_loss(outputs, targets))


def chance_of(outputs: Tensor, targets: Tensor, metric: object = "accuracy", **others: int) -> Chance | None:
    examples = set_of(outputs, targets, metric)
    return examples.chance(kept_of(examples, outputs), **others)


@pytest.mark.parametrize("answered", [(0.8, 0.15, 0.05), (0.1, 0.1, 0.8), (1.0, 0.0, 0.0)])
def test_accuracy_by_chance_follows_the_shares_of_the_classes(answered: tuple[float, ...]):
    shares = (0.8, 0.15, 0.05)
    found = chance_of(nn.functional.one_hot(labels_with(answered), 3).float(), labels_with(shares))
    assert found is not None
    constant = shares[answered.index(max(answered))]  # the one class that is answered most often
    expected = max(constant, sum(p * q for p, q in zip(shares, answered, strict=True)))
    assert found.score == pytest.approx(expected, abs=0.006)
    assert found.error < 0.02


def test_chance_does_not_depend_on_how_right_the_outputs_are():
    targets = labels_with((0.7, 0.3))
    right, wrong = (nn.functional.one_hot(t, 2).float() for t in (targets, targets.flip(0)))
    one, other = chance_of(right, targets), chance_of(wrong, targets)
    assert one is not None
    assert other is not None
    assert set_of(right, targets).value(kept_of(set_of(right, targets), right)) == 1.0
    assert one.score == pytest.approx(other.score, abs=0.01)


def test_a_regression_by_chance_errs_by_the_spread_of_targets_and_its_bias():
    """As the mean output does, given for every example."""
    targets = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    outputs = 0.8 * targets + 0.5
    found = chance_of(outputs, targets, negative_mse)
    assert found is not None
    assert found.score == pytest.approx(-(1 + 0.5**2), rel=0.05)
    assert negative_mse(outputs, targets) > found.score + 0.5


def test_the_error_is_how_far_one_permutation_lies_from_another():
    targets = labels_with((0.5, 0.5), 400)
    found = chance_of(nn.functional.one_hot(targets, 2).float(), targets, permutations=400)
    assert found is not None
    assert found.error == pytest.approx(0.5 / math.sqrt(400), rel=0.2)


def test_examples_are_permuted_and_their_pixels_stay_together():
    """Each image is of one class, in all its pixels."""
    targets = (torch.arange(40) % 4)[:, None].expand(40, 9)
    seen: list[Tensor] = []

    def metric(outputs: Tensor, permuted: Tensor) -> float:
        seen.append(permuted)
        return 0.0

    chance_of(torch.zeros(40, 4, 9), targets, metric)
    assert all((permuted == permuted[:, :1]).all() for permuted in seen)
    assert all(permuted[:, 0].bincount().tolist() == [10] * 4 for permuted in seen)
    own, *permuted, constant = seen
    assert torch.equal(own, targets)
    assert torch.equal(constant, targets)
    assert not any(torch.equal(one, targets) for one in permuted)


def test_the_metric_is_called_so_often_and_the_seed_decides():
    calls: list[float] = []

    def metric(outputs: Tensor, targets: Tensor) -> float:
        calls.append(float(outputs @ targets))
        return calls[-1]

    examples = set_of(torch.arange(50.0), torch.arange(50.0), metric)
    kept = kept_of(examples, torch.arange(50.0))

    def found(seed: int) -> Chance | None:
        return examples.chance(kept, seed=seed, permutations=5)

    assert found(1) == found(1) != found(2)
    assert len(calls) == 1 + 3 * (5 + 1), "of the outputs as they are, and for each chance once of the mean output"


def test_permutations_that_cannot_be_scored_are_left_out():
    calls = 2

    def metric(outputs: Tensor, targets: Tensor) -> float:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            return 0.25
        if calls % 3 == 1:
            raise ValueError("only one class present")
        return math.nan

    targets = torch.zeros(4)
    assert chance_of(targets, targets, metric) == Chance(0.25, 0.0)
    assert chance_of(targets, targets, metric, permutations=4) is None
    assert chance_of(targets, targets, lambda outputs, targets: math.inf) is None


# -- a metric that rewards what is worse -------------------------------------------------------------------------------


def rmse(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs - targets).square().mean().sqrt())


def fitted() -> tuple[Tensor, Tensor]:
    targets = 70 * torch.randn(90, 1, generator=torch.Generator().manual_seed(0)) + 150
    return targets + 55 * torch.randn(90, 1, generator=torch.Generator().manual_seed(1)), targets


def test_an_error_handed_over_as_it_is_is_noticed():
    outputs, targets = fitted()
    said = r"rmse rewards what is worse: it is 5\d\.\d* for .* and 1?\d\d\.?\d* when .*; give Task.maximize=False"
    with pytest.raises(UsageError, match=said):
        chance_of(outputs, targets, rmse)


def test_a_score_that_is_turned_round_is_noticed():
    outputs, targets = fitted()
    examples = set_of(outputs, targets, negative_mse, maximize=False)
    with pytest.raises(UsageError, match=r"rewards what is worse.*take maximize=False out of Task"):
        examples.chance(kept_of(examples, outputs))


def test_an_error_that_is_said_to_be_one_is_taken():
    outputs, targets = fitted()
    examples = set_of(outputs, targets, rmse, maximize=False)
    found = examples.chance(kept_of(examples, outputs))
    assert found is not None
    assert found.score < examples.value(kept_of(examples, outputs)) < 0


def test_a_bad_model_under_a_metric_of_known_direction_is_none_of_its_faults():
    """All answers are of another class than the target's."""
    targets = labels_with((0.5, 0.5), 200)
    assert chance_of(nn.functional.one_hot(1 - targets, 2).float(), targets) is not None

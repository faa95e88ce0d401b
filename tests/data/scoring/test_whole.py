"""A metric of the user's own: computed of all outputs, its interval drawn, a slow one computed once."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from autocompress.data.scoring.scorer import KeptOutputs
from autocompress.data.scoring.whole import METRIC
from autocompress.errors import CandidateFailed
from tests.data.scoring.sets import kept_of, set_of


def first_column_mean(outputs: Tensor, targets: Tensor) -> float:
    return float(outputs[:, 0].mean())


def area(outputs: Tensor, targets: Tensor) -> float:
    """Like an area under a curve: unknown when the examples are of one class."""
    return math.nan if targets.unique().numel() < 2 else 0.75


def strict_area(outputs: Tensor, targets: Tensor) -> float:
    if targets.unique().numel() < 2:
        raise ValueError("only one class present")
    return 0.75


def test_other_metrics_have_a_bootstrap_interval():
    outputs = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    examples = set_of(outputs, torch.zeros(400), first_column_mean)
    score = examples.score(kept_of(examples, outputs))
    half = 1.96 * float(outputs.std()) / math.sqrt(400)
    assert score.val == pytest.approx(float(outputs.mean()))
    assert score.val_low < score.val < score.val_high
    assert score.val_high - score.val_low == pytest.approx(2 * half, rel=0.25)


def test_bootstrap_is_decided_by_the_seed():
    outputs = torch.randn(50, 1)
    examples = set_of(outputs, torch.zeros(50), first_column_mean)
    kept = kept_of(examples, outputs)
    one, same, other = (examples.score(kept, seed) for seed in (1, 1, 2))
    assert one == same
    assert one.val == other.val
    assert (one.val_low, one.val_high) != (other.val_low, other.val_high)


def test_metric_that_answers_nan_is_passed_on():
    outputs = torch.zeros(3, 2)
    examples = set_of(outputs, torch.zeros(3), lambda outputs, targets: math.nan)
    assert math.isnan(examples.score(kept_of(examples, outputs)).val)


@pytest.mark.parametrize("metric", [area, strict_area], ids=["nan", "raises"])
def test_resample_that_a_metric_cannot_score_is_left_out(metric: Callable[[Tensor, Tensor], float]):
    outputs = torch.zeros(6, 2)
    examples = set_of(outputs, torch.tensor([0, 0, 0, 0, 0, 1]), metric)
    score = examples.score(kept_of(examples, outputs))
    assert (score.val, score.val_low, score.val_high) == (0.75, 0.75, 0.75)


def test_a_metric_that_raises_fails_the_file_with_its_message():
    outputs = torch.zeros(6, 2)
    examples = set_of(outputs, torch.zeros(6, dtype=torch.int64), strict_area)
    kept = kept_of(examples, outputs)
    with pytest.raises(CandidateFailed, match=r"Task\.metric raises ValueError: only one class present"):
        examples.score(kept)


def test_what_no_resample_can_be_scored_for_is_not_certain():
    def of_all(outputs: Tensor, targets: Tensor) -> float:
        return 0.75 if len(targets.unique()) == 6 else math.nan

    outputs, others = torch.zeros(6, 2), torch.ones(6, 2)
    examples = set_of(outputs, torch.arange(6.0), of_all)
    kept = kept_of(examples, outputs)
    score = examples.score(kept)
    assert (score.val, score.val_low, score.val_high) == (0.75, -0.25, 1.75)
    assert examples.difference(kept, kept_of(examples, others)) == (0.0, 1.0)


@pytest.mark.parametrize(("seconds", "each"), [(0.7, 50), (1.0, 50), (2.0, 25), (5.0, 10)])
def test_a_slow_metric_is_asked_for_parts_of_the_examples_and_their_spread_is_brought_to_that_of_all(
    seconds: float, each: int
):
    """One that takes 2 seconds for 400 examples may have one more, so 200 examples: eight parts of 25."""
    asked = []

    def mean(outputs: Tensor, targets: Tensor) -> float:
        asked.append(len(outputs))
        return first_column_mean(outputs, targets)

    outputs = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    examples = set_of(outputs, torch.zeros(400), mean)
    kept = taking(seconds, kept_of(examples, outputs))
    asked.clear()
    score = examples.score(kept)
    assert asked == [each] * 8
    half = 1.96 * float(outputs.std()) / math.sqrt(400)
    assert score.val_high - score.val_low == pytest.approx(2 * half, rel=0.6)


def test_files_are_compared_on_the_same_parts():
    outputs = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    examples = set_of(outputs, torch.zeros(400), first_column_mean)
    kept, others = taking(10.0, kept_of(examples, outputs)), kept_of(examples, outputs + 1)
    difference, error = examples.difference(kept, others)
    assert (difference, error) == (pytest.approx(-1.0), pytest.approx(0.0, abs=1e-6))
    assert examples.chance(kept) is None  # each permutation would be a call of all examples


def taking(seconds: float, kept: KeptOutputs) -> KeptOutputs:
    """As if the metric had taken so long."""
    return kept | {METRIC: torch.tensor([float(kept[METRIC][0]), seconds], dtype=torch.float64)}


def test_of_a_metric_of_which_lower_is_better_less_scores_higher():
    near, far = torch.full((40, 1), 0.5), torch.full((40, 1), 2.0)
    examples = set_of(near, torch.zeros(40, 1), lambda o, t: (o - t).abs().mean(), maximize=False)
    kept, others = kept_of(examples, near), kept_of(examples, far)
    assert examples.value(kept) == -0.5
    assert examples.value(kept) > examples.value(others)
    assert examples.difference(kept, others)[0] == pytest.approx(1.5)
    assert examples.score(kept).shown(examples.maximize).val == 0.5

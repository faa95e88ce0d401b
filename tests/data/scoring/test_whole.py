"""A metric of the user's own: computed of all outputs, its interval drawn, a slow one computed once."""

import math
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from autocompress.data.scoring import resampled
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


def test_a_slow_metric_is_computed_once_a_file(monkeypatch: pytest.MonkeyPatch):
    """Neither for an interval, nor for a difference, nor for chance."""
    monkeypatch.setattr(resampled, "RESAMPLING_S", 0.01)
    monkeypatch.setattr("autocompress.data.scored_set.RESAMPLING_S", 0.01)
    calls = 0

    def slow(outputs: Tensor, targets: Tensor) -> float:
        nonlocal calls
        calls += 1
        time.sleep(0.01)
        return float(outputs.mean())

    one, other = torch.ones(50, 1), torch.zeros(50, 1)
    examples = set_of(one, torch.zeros(50), slow)
    kept, others = kept_of(examples, one), kept_of(examples, other)
    score = examples.score(kept)
    assert (score.val, score.val_low, score.val_high) == (1.0, 1.0, 1.0)
    assert examples.difference(kept, others)[0] == 1.0
    assert examples.chance(kept) is None
    assert calls == 2


def test_of_a_metric_of_which_lower_is_better_less_scores_higher():
    near, far = torch.full((40, 1), 0.5), torch.full((40, 1), 2.0)
    examples = set_of(near, torch.zeros(40, 1), lambda o, t: (o - t).abs().mean(), maximize=False)
    kept, others = kept_of(examples, near), kept_of(examples, far)
    assert examples.value(kept) == -0.5
    assert examples.value(kept) > examples.value(others)
    assert examples.difference(kept, others)[0] == pytest.approx(1.5)
    assert examples.score(kept).shown(examples.maximize).val == 0.5

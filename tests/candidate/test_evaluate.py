"""What is told of one model: its score with an interval, how two models compare, and that every example is scored."""

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.export import export_with
from autocompress.data import Batch, Split, feed_of, open_split, padded, paired_difference, score_of, targets_of, wilson
from autocompress.evaluation import Evaluation, Outcome, Rejected, Score
from autocompress.latency import Latency
from autocompress.measure import outputs_of
from autocompress.plugin.contract import Array, Feed, Runtime, Session
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe, Step
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
    assert paired_difference(make(), one, one, targets) == (0.0, 0.0)


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


# -- running every example ---------------------------------------------------------------------------------------------


class Doubling(Session):
    """Twice the sum of its inputs; refuses any batch but its own, as a graph with a built-in batch does."""

    def __init__(self, batch: int, names: tuple[str, ...]) -> None:
        self.batch, self.names = batch, names

    @property
    def input_names(self) -> Sequence[str]:
        return self.names

    def run(self, feed: Feed) -> Sequence[Array]:
        assert set(feed) == set(self.names)
        assert {len(value) for value in feed.values()} == {self.batch}
        return [2 * sum(value.astype(np.float32) for value in feed.values())]


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 64])
def test_all_examples_are_scored_in_order_when_the_batch_does_not_divide_them(batch: int):
    x = torch.arange(20.0).reshape(10, 2)
    split = open_split("val", (x, torch.arange(10)))
    assert torch.equal(outputs_of(lambda: Doubling(batch, ("input",)), split, batch), 2 * x)
    assert torch.equal(targets_of(split), torch.arange(10))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_threads_share_the_examples_and_their_order_stays(
    batch: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, readers, opened, paused = torch.arange(46.0).reshape(23, 2), threading.Lock(), [], []

    def collect(indices: Sequence[int]) -> Batch:
        assert readers.acquire(blocking=False), "two read at once"
        time.sleep(0.001)
        readers.release()
        return Batch(x[indices], torch.tensor(indices))

    def session() -> Session:
        opened.append(1)
        return Doubling(batch, ("input",))

    outputs = outputs_of(session, Split("val", 23, collect), batch, lambda: paused.append(1), read=4)
    assert torch.equal(outputs, 2 * x)
    assert len(opened) == threads
    assert len(paused) > 1


@pytest.mark.parametrize("batch", [1, 4])
def test_real_file_with_a_built_in_batch_scores_every_example(
    batch: int, tiny_model: nn.Module, fake_runtime: Runtime, tmp_path: Path, examples: Callable[[int, int], Any]
):
    x, y = examples(10, 5)
    path = tmp_path / "model.onnx"
    export_with("torchscript", tiny_model, x[:batch], path)
    profile = HardwareProfile(name="fake", runtime="fake", batch=batch)
    outputs = outputs_of(lambda: fake_runtime.open(path, profile), open_split("val", (x, y)), batch)
    with torch.no_grad():
        assert torch.allclose(outputs, tiny_model(x), atol=1e-4)


def test_several_inputs_are_padded_and_fed():
    inputs = {"b": torch.arange(5.0)[:, None], "a": torch.ones(5, 1, dtype=torch.int64)}
    split = open_split("val", (inputs, torch.arange(5)))
    outputs = outputs_of(lambda: Doubling(4, ("a", "b")), split, 4)
    assert torch.equal(outputs[:, 0], 2 * (torch.arange(5.0) + 1))


def test_padding_repeats_the_last_example_and_leaves_a_full_batch_alone():
    batch = Batch({"x": torch.tensor([[1.0], [2.0]])}, torch.tensor([0, 1]))
    assert padded(batch, 4)["x"].tolist() == [[1.0], [2.0], [2.0], [2.0]]
    assert padded(batch, 2) is batch.inputs


def test_names_match_inputs_by_name_or_else_by_position():
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    assert feed_of({"x": one, "y": two}, ["y", "x"]) == {"y": two.numpy(), "x": one.numpy()}
    assert feed_of((one, two), ["left", "right"]) == {"left": one.numpy(), "right": two.numpy()}
    assert feed_of((one, two), ["input_1"]) == {"input_1": two.numpy()}  # the exporter dropped an unused input
    assert feed_of(one, ["pixels"]) == {"pixels": one.numpy()}


# -- stored and read ---------------------------------------------------------------------------------------------------


def test_outcome_goes_through_json_unchanged(make_latency: Callable[..., Latency]):
    recipe = Recipe((Step.of("carve", ratio=0.5), Step.of("train", lr=0.001)))
    evaluation = Evaluation(
        id="a-0",
        recipe=recipe,
        epochs=1.5,
        rung=0,
        score=Score(0.9, 0.88, 0.92),
        latency=replace(make_latency(0.5), reliable=False),
        size_bytes=10,
        compressed_bytes=8,
        params=5,
        macs=7,
        artifact="candidates/a-0/model.onnx",
        digest="d",
        outputs="val-1",
        elapsed_s=3.0,
    )
    outcome = Outcome(
        evaluations=(evaluation,),
        slower=(Rejected(recipe, "slower", 1.0, 0.9),),
        failed=((recipe, "squeeze", "no kernel"),),
        plans=({"history": [["conv", True, [0]]]},),
        checkpoint="weights-1",
        epochs=1.5,
        train_s=2.0,
    )
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
    assert Outcome.from_json(json.loads(json.dumps(Outcome().to_json()))) == Outcome()
    assert evaluation.at(9.0) == replace(evaluation, elapsed_s=9.0)

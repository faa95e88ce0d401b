"""What a family brought goes through JSON unchanged, scores have a direction, and files keep half of a lead or not."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from autocompress.evaluation import Chance, Evaluation, Outcome, Rejected, Score, keeps_half_the_lead
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step


def test_outcome_goes_through_json_unchanged(make_latency: Callable[..., Latency]):
    recipe = Recipe((Step.of("carve", ratio=0.5), Step.of("train", lr=0.001)))
    evaluation = Evaluation(
        id="a-0",
        recipe=recipe,
        epochs=1.5,
        rung=0,
        score=Score(0.9, 0.88, 0.92),
        latency=make_latency(0.5, quiet=False),
        size_bytes=10,
        compressed_bytes=8,
        params=5,
        macs=7,
        artifact="candidates/a-0/model.onnx",
        digest="d",
        graph="g",
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


def test_a_score_is_shown_in_the_metrics_own_direction():
    """Of an error of 55 in 50 to 60, and 54 on the test split."""
    score = Score(-55.0, -60.0, -50.0, test=-54.0, sampled=100)
    assert score.shown(maximize=False) == Score(55.0, 50.0, 60.0, test=54.0, sampled=100)
    assert score.shown(maximize=True) == score


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

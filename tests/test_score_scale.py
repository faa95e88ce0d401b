"""How scores and losses of score are said."""

import pytest

from autocompress.evaluation import Score
from autocompress.score_scale import IN_PERCENT, ScoreScale
from autocompress.verdict import drop_verdict

RMSE = ScoreScale("rmse", maximize=False)


def test_accuracy_is_a_percentage_and_its_points_need_no_word():
    assert (IN_PERCENT.text(0.934), IN_PERCENT.change(0.934, 0.93)) == ("93.40 %", "-0.40 points")
    assert IN_PERCENT.points(2) == "2 points"


def test_an_error_is_its_own_number():
    assert RMSE.scored(Score(-55.0, -60.0, -50.0)) == "55"
    assert RMSE.change(55.0, 56.5) == "+1.5"
    assert RMSE.text(None) == "-"


def test_a_point_is_said_in_the_unit_of_a_metric_that_is_no_share():
    assert RMSE.points(2) == "2 points (0.02 of rmse)"
    assert "it loses 150.00 points (1.5 of rmse)" in drop_verdict(150, 10, 2, 1000, RMSE).reason


@pytest.mark.parametrize(("scale", "better"), [(IN_PERCENT, 0.9), (RMSE, 0.8)])
def test_what_is_better_is_of_the_metric(scale: ScoreScale, better: float):
    assert max((0.8, 0.9), key=scale.goodness) == better


def test_a_document_without_a_direction_is_of_an_earlier_version():
    assert ScoreScale.of({"metric": "f1"}) == ScoreScale("f1")

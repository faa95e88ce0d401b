"""What a file is worth recommending for: the verdicts on its latency and its loss, and half of the reference's lead."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from autocompress.budget import Budget
from autocompress.evaluation import Chance, Evaluation, Score
from autocompress.explore.standings.judgement import (
    Judgement,
    fastest_first,
    judge,
    most_accurate_first,
)
from autocompress.latency import Latency
from autocompress.recipe import Recipe

MakeEvaluation = Callable[..., Evaluation]
MakeJudgement = Callable[..., Judgement]
CHANCE = Chance(0.1, 0.01)
NO_BUDGET = Budget()


@pytest.fixture
def make_evaluation(make_latency: Callable[..., Latency]) -> MakeEvaluation:
    """``make_evaluation("a", 0.9, ratio=0.5)``: of a score with an interval of two points on both sides."""

    def make(name: str, score: float, ratio: float = 1.0, size: int = 10, *, quiet: bool = True) -> Evaluation:
        own, latency = Score(score, score - 0.02, score + 0.02), make_latency(ratio, quiet=quiet)
        return Evaluation(
            name, Recipe(), 1.0, 0, own, latency, size, 8, 5, 7, "a", name, f"graph-{name}", f"val-{name}"
        )

    return make


@pytest.fixture
def make_judgement(make_evaluation: MakeEvaluation) -> MakeJudgement:
    """``make_judgement(Budget(max_drop=1), loss=0.5, error=0.2)``: of a file that loses so many points on the same
    examples, in half of the reference's time.
    """

    def make(
        budget: Budget = NO_BUDGET,
        loss: float = 0.0,
        error: float = 0.1,
        ratio: float = 0.5,
        chance: Chance | None = CHANCE,
        quiet: bool = True,
    ) -> Judgement:
        file = make_evaluation("file", 0.9 - loss / 100, ratio, quiet=quiet)
        return judge(file, make_evaluation("reference", 0.9), budget, (loss / 100, error / 100), chance, 1000)

    return make


# -- half of the lead --------------------------------------------------------------------------------------------------


def test_what_lost_its_lead_is_not_worth_having_unless_it_was_asked_for(make_judgement: MakeJudgement):
    lost = make_judgement(Budget(speedup=1.5), loss=60, error=1)
    assert (lost.keeps_lead, lost.worth, lost.recommendable, lost.hopeful) == (False, False, False, False)
    asked = make_judgement(Budget(max_drop=70), loss=60, error=1)
    assert (asked.keeps_lead, asked.worth, asked.recommendable) == (False, True, True)
    assert make_judgement(Budget(speedup=1.5), loss=60, error=1, chance=None).worth, "where chance is not known"


# -- the loss of score -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "error", "keeps"),
    [(0.5, 0.2, True), (0.9, 0.2, False), (1.5, 0.2, False)],
    ids=["met", "undecided", "not met"],
)
def test_a_loss_is_kept_when_it_is_known_to_be_allowed(
    loss: float, error: float, keeps: bool, make_judgement: MakeJudgement
):
    judgement = make_judgement(Budget(max_drop=1), loss, error)
    assert (judgement.keeps_score, judgement.recommendable) == (keeps, keeps)
    assert judgement.drop is not None
    assert judgement.drop.met is keeps


@pytest.mark.parametrize(
    ("loss", "error", "keeps", "met"),
    [(0.5, 0.4, True, False), (0.7, 0.4, False, False), (-1.0, 0.4, True, True), (2.5, 0.4, False, False)],
    ids=["probably", "hardly", "surely", "surely not"],
)
def test_on_a_split_that_is_too_small_a_loss_is_kept_when_it_probably_is(
    loss: float, error: float, keeps: bool, met: bool, make_judgement: MakeJudgement
):
    """1.645 of these errors are more than half of the point that may be lost."""
    judgement = make_judgement(Budget(max_drop=1), loss, error)
    assert judgement.drop is not None
    assert (judgement.keeps_score, judgement.recommendable, judgement.drop.met) == (keeps, keeps, met)


def test_with_a_budget_of_latency_any_loss_is_kept_where_nobody_said_how_much(make_judgement: MakeJudgement):
    judgement = make_judgement(Budget(speedup=1.5), loss=30, error=5)
    assert (judgement.drop, judgement.keeps_score) == (None, True)


def test_without_one_a_point_may_be_lost_and_half_of_the_lead_be_kept_all_the_same(make_judgement: MakeJudgement):
    assert [make_judgement(loss=loss).keeps_score for loss in (0.8, 1.2)] == [True, False]
    assert not make_judgement(loss=60).worth, "nobody asked for that"


def test_a_loss_that_was_not_paired_is_of_both_scores(make_evaluation: MakeEvaluation):
    reference, file = make_evaluation("reference", 0.9), make_evaluation("file", 0.89, 0.5)
    found = judge(file, reference, Budget(max_drop=1), None, CHANCE, 1000)
    assert found.loss == pytest.approx(1.0)
    assert found.error == pytest.approx(2**0.5 * 2 / 1.959964)
    itself = judge(reference, reference, Budget(max_drop=1), None, CHANCE, 1000)
    assert (itself.loss, itself.error, itself.recommendable) == (0.0, 0.0, True)


# -- latency -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "answer", "hopeful"),
    [(0.4, "met", True), (0.49, "undecided", True), (0.505, "undecided", False), (0.6, "not met", False)],
)
def test_what_may_be_within_the_budget_is_hopeful(
    ratio: float, answer: str, hopeful: bool, make_judgement: MakeJudgement
):
    judgement = make_judgement(Budget(speedup=2), ratio=ratio)
    assert judgement.latency is not None
    assert judgement.latency.answer == answer
    assert judgement.hopeful is hopeful
    assert judgement.recommendable is (answer == "met")
    assert judgement.excess == pytest.approx(2 * ratio - 1)


def test_further_sessions_do_not_help_what_loses_too_much(make_judgement: MakeJudgement):
    assert make_judgement(Budget(speedup=2, max_drop=1), 0.2, 0.1, ratio=0.49).hopeful
    assert not make_judgement(Budget(speedup=2, max_drop=1), 3.0, 0.1, ratio=0.49).hopeful


def test_what_is_not_ruled_out_is_possible_before_it_is_compared(make_judgement: MakeJudgement):
    """As if both had been scored on different examples the error is too large, and an undecided loss may be met yet."""
    undecided = make_judgement(Budget(speedup=2, max_drop=1), 0.6, 0.3, ratio=0.49)
    assert (undecided.possible, undecided.hopeful) == (True, False)
    assert not make_judgement(Budget(speedup=2, max_drop=1), 3.0, 0.3, ratio=0.49).possible
    assert not make_judgement(Budget(speedup=2, max_drop=1), 0.6, 0.3, ratio=0.6).possible


def test_a_busy_machine_leaves_what_is_within_the_budget_hopeful(make_judgement: MakeJudgement):
    judgement = make_judgement(Budget(speedup=2), ratio=0.49, quiet=False)
    assert (judgement.recommendable, judgement.hopeful) == (False, True)


def test_without_a_budget_every_latency_is_kept(make_judgement: MakeJudgement):
    judgement = make_judgement(ratio=9.0)
    assert (judgement.latency, judgement.keeps_latency, judgement.excess) == (None, True, 0.0)
    assert judgement.recommendable


# -- order -------------------------------------------------------------------------------------------------------------


def test_files_are_ordered_by_score_or_by_speed_and_then_by_the_other_and_by_size(
    make_evaluation: MakeEvaluation, make_judgement: MakeJudgement
):
    one = make_judgement()
    files = [
        replace(one, evaluation=make_evaluation(name, score, ratio, size))
        for name, score, ratio, size in [
            ("slow", 0.9, 0.8, 1),
            ("fast", 0.8, 0.2, 1),
            ("faster", 0.9, 0.6, 9),
            ("smaller", 0.9, 0.6, 5),
            ("better", 0.85, 0.2, 1),
        ]
    ]
    by_score, by_speed = most_accurate_first(files), fastest_first(files)
    assert [file.evaluation.id for file in by_score] == ["smaller", "faster", "slow", "better", "fast"]
    assert [file.evaluation.id for file in by_speed] == ["better", "fast", "smaller", "faster", "slow"]


@pytest.mark.parametrize(("limit", "answer"), [(None, None), (10, "met"), (9, "not met")])
def test_a_file_over_the_targets_size_is_not_recommended(
    limit: int | None, answer: str | None, make_evaluation: MakeEvaluation
) -> None:
    reference, file = make_evaluation("reference", 0.9), make_evaluation("a", 0.9)
    assert file.size_bytes == 10
    found = judge(file, reference, Budget(max_size_bytes=limit), (0.0, 0.0), CHANCE, 1000)
    assert (found.size and found.size.answer) == answer
    assert found.recommendable == found.hopeful == (answer != "not met")

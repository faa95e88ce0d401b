"""How things stand: a graph is timed by all its files, over the rungs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.evaluation import Evaluation, Outcome, Rejected, Score
from autocompress.explore.history.facts import (
    Chosen,
    Compared,
    Evaluated,
    Failed,
    Nearest,
    Recommended,
    ScoredOnTest,
    Timed,
)
from autocompress.explore.history.history import History
from autocompress.explore.standings.standings import Standings
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step


def trained(**params: float) -> Recipe:
    return Recipe((Step.of("carve", **params), Step.of("train", lr=0.002)))


FAMILY = trained(ratio=0.5)
INT8 = FAMILY.rewritten(Step.of("squeeze"))
FAST = trained(ratio=0.9)
Make = Callable[..., Latency]
MakeHistory = Callable[..., History]


def evaluation(recipe: Recipe, rung: int, latency: Latency) -> Evaluation:
    name = f"{recipe.id}-{rung}"
    return Evaluation(
        name, recipe, 1.0, rung, Score(0.9, 0.88, 0.92), latency, 10, 8, 5, 7, "a", name, str(recipe), "v"
    )


def enter(history: History, recipe: Recipe, *files: Evaluation, **others: Any) -> None:
    """A family was evaluated; it can be trained on."""
    history.enter(Evaluated(recipe, Outcome(**{"evaluations": files, "checkpoint": "w", **others})))


@pytest.fixture
def history(make_latency: Make, make_history: MakeHistory) -> History:
    """Of one family three rungs, each timed in one session; the last of the int8 file was on a busy machine."""
    found = make_history(evaluation(Recipe(), 0, make_latency(1.0)))
    busy = make_latency(0.9, sessions=1, quiet=False)
    int8s = make_latency(0.18, sessions=1), make_latency(0.22, sessions=1), busy
    for rung, (plain, int8) in enumerate(zip((0.50, 0.52, 0.48), int8s, strict=True)):
        own = evaluation(FAMILY, rung, make_latency(plain, sessions=1))
        enter(found, FAMILY, own, evaluation(INT8, rung, int8), rung=rung)
    return found


@pytest.fixture
def standings(history: History) -> Standings:
    return Standings(history, Budget(speedup=5))


def ratios(standings: Standings) -> dict[str, float]:
    """Of every file, by its id, as it is reported."""
    return {e.id: e.latency.ratio for e in standings.candidates()}


def test_the_sessions_of_all_files_of_a_graph_count_for_each_of_them(
    history: History, standings: Standings, make_session: Make
):
    plain, int8 = (e.id for e in standings.families[FAMILY.id].evaluations[:2])
    assert ratios(standings)[plain] == pytest.approx((0.50 * 0.52 * 0.48) ** (1 / 3)), "their geometric mean"
    assert ratios(standings)[int8] == pytest.approx((0.18 * 0.22) ** (1 / 2)), "a busy machine does not count"
    history.enter(Timed(str(INT8), make_session(0.19)))
    for rung in range(3):
        assert ratios(standings)[f"{INT8.id}-{rung}"] == pytest.approx((0.18 * 0.22 * 0.19) ** (1 / 3))


def test_a_file_of_a_busy_machine_is_on_the_front_like_any(history: History, standings: Standings, make_latency: Make):
    assert [e.recipe for e in standings.front()] == [INT8]
    enter(history, FAST, evaluation(FAST, 0, make_latency(0.05, quiet=False)))
    assert [e.recipe for e in standings.front()] == [FAST]


def test_files_are_reported_by_their_graphs_sessions_since_the_finalists_were_chosen(
    history: History, standings: Standings, make_session: Make
):
    int8, other = f"{INT8.id}-1", f"{INT8.id}-0"
    assert not any(standings.is_final(e) for e in standings.candidates() if e.recipe.changes)
    history.enter(Chosen((INT8.family.id,)))
    for _ in range(2):
        history.enter(Timed(str(INT8), make_session(0.21)))
    assert not any(standings.is_final(e) for e in standings.candidates() if e.recipe.changes), "there are two"
    assert ratios(standings)[int8] == pytest.approx((0.18 * 0.22 * 0.21**2) ** (1 / 4))
    history.enter(Timed(str(INT8), make_session(0.21)))
    assert {int8, other} <= {e.id for e in standings.candidates() if standings.is_final(e)}
    assert ratios(standings)[int8] == ratios(standings)[other] == pytest.approx(0.21)
    history.enter(Chosen((INT8.family.id,)))
    assert not any(standings.is_final(e) for e in standings.candidates() if e.recipe.changes), "chosen anew"


def test_sessions_count_as_those_of_a_busy_machine_once_the_reference_is_seen_to_be_faster(
    history: History, standings: Standings, make_session: Make
):
    int8 = f"{INT8.id}-1"
    faster = replace(make_session(0.2), reference=0.7)
    history.enter(Timed(str(INT8), faster))
    assert ratios(standings)[int8] == pytest.approx(0.2), "it alone was quiet"
    much_later = replace(make_session(0.3), reference=0.4, at_s=1e6)
    history.enter(Timed(str(INT8), much_later))
    assert ratios(standings)[int8] == pytest.approx((0.2 * 0.3) ** (1 / 2)), "another hour is another machine"


def test_milliseconds_of_all_files_are_of_one_reference(history: History, standings: Standings, make_session: Make):
    history.enter(Timed(str(INT8), replace(make_session(0.2), reference=0.85)))
    reference = standings.reference.latency
    assert all(e.latency.p50 == pytest.approx(e.latency.ratio * reference.p50) for e in standings.candidates())


def test_the_ratio_of_the_reference_is_one_by_definition(make_latency: Make, make_history: MakeHistory):
    standings = Standings(make_history(evaluation(Recipe(), 0, make_latency(1.02, quiet=False))), Budget())
    assert [e.latency.ratio for e in standings.front()] == [1.0]
    assert standings.reference.latency.ratio_next_high == 1.0


def test_a_file_of_the_references_graph_that_stands_alone_is_as_slow_as_it_was_timed(
    make_latency: Make, make_history: MakeHistory, make_session: Make
):
    """The ratio of any other is one by definition."""
    reference = evaluation(Recipe(), 0, make_latency(1.0))
    history = make_history(reference)
    standings = Standings(history, Budget())
    own = replace(evaluation(FAMILY, 0, make_latency(1.0)), graph=reference.graph)
    enter(history, FAMILY, own)
    assert ratios(standings)[own.id] == 1.0
    for _ in range(3):
        history.enter(Timed(reference.graph, replace(make_session(1.3), file=own.digest)))
    assert standings.measured.stands_alone(own)
    assert ratios(standings)[own.id] == pytest.approx(1.3)
    assert ratios(standings)[reference.id] == 1.0


def test_a_loss_is_judged_by_what_was_compared(history: History, make_latency: Make):
    standings = Standings(history, Budget(max_drop=1))
    int8 = f"{INT8.id}-1"

    def answer() -> str:
        (judgement,) = (j for j in standings.judgements() if j.evaluation.id == int8)
        assert judgement.drop is not None
        return judgement.drop.answer

    assert answer() == "undecided", "the intervals of the scores are four points wide"
    for loss, found in ((0.002, "met"), (0.02, "not met")):
        history.enter(Compared({int8: (loss, 0.001)}))
        assert answer() == found


def test_a_family_contends_by_all_sessions_of_its_graphs(
    history: History, standings: Standings, make_latency: Make, make_session: Make
):
    other = trained(ratio=0.6)
    enter(history, other, evaluation(other, 0, make_latency(0.15)))
    assert [f.id for f in standings.contending()] == [other.id]
    for _ in range(3):
        history.enter(Timed(str(INT8), make_session(0.18)))
    assert [f.id for f in standings.contending()] == [FAMILY.id, other.id]


def test_what_failed_to_train_is_not_trained_on(history: History, standings: Standings, make_latency: Make):
    assert [f.id for f in standings.finalists(3)] == [FAMILY.id]
    history.enter(Failed(FAMILY, "tune", "it broke"))
    assert standings.finalists(3) == []
    enter(history, FAMILY, evaluation(FAMILY, 3, make_latency(0.1)), rung=3)
    assert standings.finalists(3) == [], "and would fail again"
    enter(history, FAST, evaluation(FAST, 0, make_latency(0.1)), failed=((FAST, "export", "no float file"),))
    assert standings.finalists(3) == []


def test_of_very_many_families_the_worst_are_not_trained_on(make_latency: Make, make_history: MakeHistory):
    history = make_history(evaluation(Recipe(), 0, make_latency(1.0)))
    standings = Standings(history, Budget())
    recipes = [trained(units=n) for n in range(401)]
    for number, recipe in enumerate(recipes):
        score = 0.86 + number / 1e5
        own = replace(evaluation(recipe, 0, make_latency(0.5)), score=Score(score, score, score))
        enter(history, recipe, own)
        assert len(standings.contending()) == (number + 1 if recipe != recipes[-1] else 300)
    assert {f.id for f in standings.contending()} == {recipe.id for recipe in recipes[-300:]}
    assert standings.finalists(1)[0].recipe == recipes[-1]


def test_finalists_stay_within_the_budget_by_what_its_verdict_takes(history: History, make_latency: Make):
    standings = Standings(history, Budget(speedup=5))
    near, better = (trained(ratio=r) for r in (0.6, 0.7))
    best = replace(evaluation(better, 0, make_latency(0.195)), score=Score(0.91, 0.9, 0.92))
    enter(history, better, best)
    assert [f.recipe for f in standings.finalists(1)] == [better], "while nothing is within it by as much"
    enter(history, near, evaluation(near, 0, make_latency(0.185)))
    assert [f.recipe for f in standings.finalists(1)] == [near]


def test_a_variant_that_is_always_slower_is_not_made_any_more(
    history: History, standings: Standings, make_latency: Make
):
    slow, other = Step.of("slow"), Step.of("squeeze")
    families = [trained(ratio=0.1 * n) for n in range(1, 5)]
    for number, family in enumerate(families[:3]):
        assert standings.slower_variants(families[3]) == ()
        left_out = tuple(Rejected(family.rewritten(v), "slower", 1.0, 1.1) for v in (slow, other))
        enter(history, family, evaluation(family, 0, make_latency(0.5)), slower=left_out)
        assert standings.slower_variants(family) == (slow, other), f"at the next rung of family {number}"
    assert standings.slower_variants(families[3]) == (slow,), "the other was faster in some family"


def test_a_variant_that_makes_the_reference_faster_is_made_of_every_family(
    make_latency: Make, make_history: MakeHistory
):
    squeeze = Step.of("squeeze")
    int8 = evaluation(Recipe().rewritten(squeeze), 0, make_latency(0.4))
    history = make_history(evaluation(Recipe(), 0, make_latency(1.0)), int8)
    standings = Standings(history, Budget(speedup=5))
    families = [trained(ratio=0.1 * n) for n in range(1, 5)]
    for family in families[:3]:
        left_out = Rejected(family.rewritten(squeeze), "slower", 1.0, 1.1)
        enter(history, family, evaluation(family, 0, make_latency(0.5)), slower=(left_out,))
    assert standings.slower_variants(families[3]) == ()


def test_what_loses_nothing_bounds_what_is_worth_looking_at(
    history: History, standings: Standings, make_latency: Make, make_session: Make
):
    """By all sessions of its graph: a first one that was too fast by chance bounds nothing for ever."""
    before = standings.worth_below()
    enter(history, FAST, replace(evaluation(FAST, 0, make_latency(0.1)), score=Score(0.89, 0.87, 0.91)))
    assert standings.worth_below() == before, "it loses a point"
    enter(history, FAST, evaluation(FAST, 1, make_latency(0.01, quiet=False)))
    faster = standings.worth_below()
    assert faster == pytest.approx(make_latency(0.1).ratio_high), "its graph is known from quiet sessions alone"
    for _ in range(7):
        history.enter(Timed(str(FAST), make_session(0.16)))
    slower = standings.worth_below()
    assert slower is not None
    assert faster < 0.14 < slower < before


def test_a_recipe_has_ended_once_it_was_evaluated_rejected_or_failed(history: History, standings: Standings):
    evaluated, rejected, failed, fresh = FAMILY, *(trained(ratio=r) for r in (0.1, 0.2, 0.3))
    history.enter(Rejected(rejected, "too slow", 1.0, 0.9))
    history.enter(Failed(failed, "carve", "it broke"))
    assert [standings.ended(r) for r in (evaluated, rejected, failed, fresh)] == [True, True, True, False]
    assert [r.reason for r in standings.rejected] == ["too slow"]
    assert [f.reason for f in standings.failed] == ["it broke"]


def test_the_front_is_kept_as_it_grows_and_follows_further_sessions(
    history: History, standings: Standings, make_latency: Make, make_session: Make
):
    plain = standings.families[FAMILY.id].evaluations[0]
    assert plain.id not in {e.id for e in standings.front()}
    enter(history, FAST, evaluation(FAST, 0, make_latency(0.15, sessions=1)))
    assert [e.recipe for e in standings.front()] == [FAST]
    for _ in range(3):
        history.enter(Timed(str(FAST), make_session(0.3)))
    assert [e.recipe for e in standings.front()] == [INT8]


def test_of_two_equal_files_the_one_on_the_front_stays_there(
    history: History, standings: Standings, make_latency: Make
):
    enter(history, FAST, evaluation(FAST, 0, make_latency(0.15)))
    other = trained(ratio=0.6)
    enter(history, other, evaluation(other, 0, make_latency(0.1)))
    enter(history, FAST, evaluation(FAST, 1, make_latency(0.1)), rung=1)
    assert [e.recipe for e in standings.front()] == [other]


def test_what_a_search_still_needs_of_the_store_is_of_the_front_and_the_best(
    history: History, standings: Standings, make_latency: Make
):
    for number in range(30):
        own = trained(ratio=number / 100)
        slow = replace(evaluation(own, 0, make_latency(0.9)), score=Score(0.5 + number / 1000, 0.4, 0.6))
        enter(history, own, slow, checkpoint=f"weights-{number}")
    used = standings.in_use()
    assert {"w", "v"} <= used
    assert len(used) < 15


def test_a_file_off_the_front_can_be_the_only_one_within_a_budget_of_milliseconds(history: History, make_latency: Make):
    """The front is by ratios, the budget is of the profile's percentile."""
    standings = Standings(history, Budget(latency_ms=0.15))
    enter(history, FAST, evaluation(FAST, 0, make_latency(0.1, statistic=0.3)))
    assert standings.best_feasible() is None
    other = trained(ratio=0.6)
    enter(history, other, evaluation(other, 0, make_latency(0.12, statistic=0.14)))
    assert [e.recipe for e in standings.front()] == [FAST]
    best = standings.best_feasible()
    assert best is not None
    assert best.recipe == other


def test_the_rank_correlation_is_of_so_many_families_at_least(
    history: History, standings: Standings, make_latency: Make
):
    assert standings.rank_correlation() is None, "of one family"
    for ratio, scores in ((0.6, (0.88, 0.89)), (0.7, (0.87, 0.88)), (0.8, (0.8, 0.81))):
        family = trained(ratio=ratio)
        for rung, score in enumerate(scores):
            own = replace(evaluation(family, rung, make_latency(0.3)), score=Score(score, score, score))
            enter(history, family, own, rung=rung, examples=100)
    assert len(standings.trained_on) == 3
    assert standings.rank_correlation(3) == 1.0
    assert standings.rank_correlation(4) is None
    assert standings.untrained_rank_correlation() is None, "none of them was evaluated before its training"


def test_what_was_evaluated_untrained_is_compared_with_its_last_training(
    history: History, standings: Standings, make_latency: Make
):
    for ratio, scores in ((0.6, (0.8, 0.89)), (0.7, (0.7, 0.9)), (0.8, (0.6, 0.91))):
        for rung, score in enumerate(scores):
            own = replace(evaluation(trained(ratio=ratio), rung, make_latency(0.3)), score=Score(score, score, score))
            enter(history, trained(ratio=ratio), own, rung=rung, examples=100 * rung)
    assert standings.untrained_rank_correlation() == -1.0
    assert standings.rank_correlation() is None, "each was trained once"


def test_a_budget_that_the_reference_meets_steers_nothing(history: History):
    slack = Standings(history, Budget(speedup=0.5, max_drop=1))
    assert (slack.steering, slack.target) == (Budget(max_drop=1), None)
    bounded = Standings(history, Budget(speedup=5))
    assert bounded.steering == Budget(speedup=5).less(0.05)
    assert bounded.target == pytest.approx(0.19)


def test_test_scores_and_what_was_chosen_last_are_known(history: History, standings: Standings):
    assert standings.concluded is None
    file = standings.families[FAMILY.id].evaluations[1]
    history.enter(ScoredOnTest({file.digest: 0.87}))
    history.enter(Nearest("reference"))
    history.enter(Recommended(file.id))
    assert standings.concluded == Recommended(file.id)
    assert {e.id: e.score.test for e in standings.candidates()}[file.id] == 0.87
    assert [e.score.test for e in standings.front()] == [0.87]

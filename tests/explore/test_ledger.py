"""What a search knows: a graph is timed by all its files, over the rungs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.evaluation import Evaluation, Outcome, Rejected, Score
from autocompress.explore.ledger import Failed, Ledger
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step

FAMILY = Recipe((Step.of("carve", ratio=0.5),))
INT8 = FAMILY.rewritten(Step.of("squeeze"))
Make = Callable[..., Latency]


def evaluation(recipe: Recipe, rung: int, latency: Latency) -> Evaluation:
    name = f"{recipe.id}-{rung}"
    return Evaluation(name, recipe, 1.0, rung, Score(0.9, 0.88, 0.92), latency, 10, 8, 5, 7, "a", name, "v")


@pytest.fixture
def ledger(make_latency: Make) -> Ledger:
    """Of one family three rungs; the int8 file was timed too fast once and disturbed once."""
    own = {"reference": evaluation(Recipe(), 0, make_latency(1.0)), "reference_family": Outcome()}
    reference: Any = type("Opening", (), own)
    found = Ledger(reference, Budget(speedup=5))
    disturbed = replace(make_latency(0.9), reliable=False)
    for rung, (plain, int8) in enumerate([(0.50, 0.18), (0.52, 0.22), (0.48, disturbed)]):
        latency = int8 if isinstance(int8, Latency) else make_latency(int8)
        own = (evaluation(FAMILY, rung, make_latency(plain)), evaluation(INT8, rung, latency))
        found.add(FAMILY, Outcome(evaluations=own, checkpoint="w"))
    return found


def test_a_graph_is_expected_to_take_the_middle_of_its_sound_measurements(ledger: Ledger, make_latency: Make):
    plain, int8 = ledger.families[FAMILY.id].outcomes[-1].evaluations
    assert ledger.expected(plain).ratio == 0.50
    assert ledger.expected(int8).ratio == 0.22, "of two the slower"
    ledger.repeat(INT8, make_latency(0.19))
    assert ledger.expected(int8).ratio == 0.19


def test_what_would_be_on_the_front_but_was_disturbed_is_known(ledger: Ledger, make_latency: Make):
    assert [e.latency.ratio for e in ledger.front()] == [0.18]
    assert ledger.disturbed() == []
    fast, slow = (Recipe((Step.of("carve", ratio=ratio),)) for ratio in (0.9, 0.1))
    for recipe, ratio in ((fast, 0.05), (slow, 0.8)):
        disturbed = evaluation(recipe, 0, replace(make_latency(ratio), reliable=False))
        ledger.add(recipe, Outcome(evaluations=(disturbed,), checkpoint="w"))
    assert [e.recipe for e in ledger.disturbed()] == [fast], "the other is dominated even so"
    for _ in range(2):
        ledger.repeat(fast, replace(make_latency(0.052), reliable=False))
    assert ledger.disturbed() == []
    assert [(e.recipe, e.latency.ratio) for e in ledger.front()] == [(fast, 0.052)], "three that agree"


def test_a_family_contends_by_what_is_expected(ledger: Ledger, make_latency: Make):
    other = Recipe((Step.of("carve", ratio=0.6),))
    ledger.add(other, Outcome(evaluations=(evaluation(other, 0, make_latency(0.15)),), checkpoint="w"))
    assert [f.id for f in ledger.contending()] == [other.id]
    for _ in range(2):
        ledger.repeat(INT8, make_latency(0.19))
    assert [f.id for f in ledger.contending()] == [FAMILY.id, other.id]


def test_a_variant_that_is_always_slower_is_not_made_any_more(ledger: Ledger, make_latency: Make):
    slow, other = Step.of("slow"), Step.of("squeeze")
    families = [Recipe((Step.of("carve", ratio=0.1 * n),)) for n in range(1, 5)]
    for number, family in enumerate(families[:3]):
        assert ledger.slower_variants(families[3]) == ()
        left_out = tuple(Rejected(family.rewritten(v), "slower", 1.0, 1.1) for v in (slow, other))
        ledger.add(family, Outcome(evaluations=(evaluation(family, 0, make_latency(0.5)),), slower=left_out))
        assert ledger.slower_variants(family) == (slow, other), f"at the next rung of family {number}"
    assert ledger.slower_variants(families[3]) == (slow,), "the other was faster in some family"


def test_a_variant_that_makes_the_reference_faster_is_made_of_every_family(ledger: Ledger, make_latency: Make):
    int8 = evaluation(Recipe().rewritten(Step.of("squeeze")), 0, make_latency(0.4))
    ledger.opening.reference_family = Outcome(evaluations=(int8,))  # type: ignore[misc]
    found = Ledger(ledger.opening, ledger.budget)
    families = [Recipe((Step.of("carve", ratio=0.1 * n),)) for n in range(1, 5)]
    for family in families[:3]:
        left_out = Rejected(family.rewritten(Step.of("squeeze")), "slower", 1.0, 1.1)
        found.add(family, Outcome(evaluations=(evaluation(family, 0, make_latency(0.5)),), slower=(left_out,)))
    assert found.slower_variants(families[3]) == ()


def test_the_reference_counts_however_disturbed_it_was(ledger: Ledger, make_latency: Make):
    ledger.opening.reference = evaluation(Recipe(), 0, make_latency(1.0, reliable=False))  # type: ignore[misc]
    found = Ledger(ledger.opening, Budget())
    assert [e.latency.ratio for e in found.front()] == [1.0]


def test_what_loses_nothing_bounds_what_is_worth_looking_at(ledger: Ledger, make_latency: Make):
    assert ledger.worth_below() == make_latency(0.18).ratio_high
    fast = Recipe((Step.of("carve", ratio=0.9),))
    worse = replace(evaluation(fast, 0, make_latency(0.1)), score=Score(0.89, 0.87, 0.91))
    before = ledger.worth_below()
    ledger.add(fast, Outcome(evaluations=(worse,), checkpoint="w"))
    assert ledger.worth_below() == before, "it loses a point"
    good = replace(evaluation(fast, 1, make_latency(0.1)), score=Score(0.8995, 0.88, 0.92))
    ledger.add(fast, Outcome(evaluations=(good,), checkpoint="w"))
    assert ledger.worth_below() == make_latency(0.1).ratio_high
    disturbed = replace(evaluation(fast, 2, make_latency(0.01)), latency=replace(make_latency(0.01), reliable=False))
    ledger.add(fast, Outcome(evaluations=(disturbed,), checkpoint="w"))
    assert ledger.worth_below() == make_latency(0.1).ratio_high


def test_a_recipe_has_ended_once_it_was_evaluated_rejected_or_failed(ledger: Ledger):
    evaluated, rejected, failed, fresh = FAMILY, *(Recipe((Step.of("carve", ratio=r),)) for r in (0.1, 0.2, 0.3))
    ledger.reject(Rejected(rejected, "too slow", 1.0, 0.9))
    ledger.fail(Failed(failed, "carve", "it broke"))
    assert [ledger.ended(r) for r in (evaluated, rejected, failed, fresh)] == [True, True, True, False]
    assert [r.reason for r in ledger.rejected] == ["too slow"]
    assert [f.reason for f in ledger.failed] == ["it broke"]


def test_the_front_is_kept_as_it_grows_and_follows_the_last_measurements(ledger: Ledger, make_latency: Make):
    plain = ledger.families[FAMILY.id].evaluations[0]
    assert plain.id not in {e.id for e in ledger.front()}
    fast = Recipe((Step.of("carve", ratio=0.9),))
    ledger.add(fast, Outcome(evaluations=(evaluation(fast, 0, make_latency(0.05)),), checkpoint="w"))
    assert [e.recipe for e in ledger.front()] == [fast]
    ledger.finished({f"{fast.id}-0": make_latency(0.3)})
    assert [e.latency.ratio for e in ledger.front()] == [0.18]


def test_what_a_search_still_needs_of_the_store_is_of_the_front_and_the_best(ledger: Ledger, make_latency: Make):
    for number in range(30):
        own = Recipe((Step.of("carve", ratio=number / 100),))
        slow = replace(evaluation(own, 0, make_latency(0.9)), score=Score(0.5 + number / 1000, 0.4, 0.6))
        ledger.add(own, Outcome(evaluations=(slow,), checkpoint=f"weights-{number}"))
    used = ledger.in_use()
    assert {"w", "v"} <= used
    assert len(used) < 15


def test_a_file_that_was_disturbed_counts_with_what_its_graph_takes(ledger: Ledger, make_latency: Make):
    plain, int8 = ledger.families[FAMILY.id].outcomes[-1].evaluations
    ledger.repeat(INT8, make_latency(0.19))
    current = {e.id: e for e in ledger.candidates()}
    assert current[int8.id].latency == ledger.expected(int8)
    assert current[plain.id].latency.ratio == 0.48, "what was measured soundly stays what it is"
    assert ledger.feasible(current[int8.id])
    ledger.front()
    better = replace(int8, id="better", rung=3, score=Score(0.95, 0.9, 1.0))
    ledger.add(FAMILY, Outcome(evaluations=(better,), rung=3, checkpoint="w"))
    assert "better" in {e.id for e in ledger.front()}
    ledger.finished({"better": replace(make_latency(0.9), reliable=False)})
    assert ledger.best_feasible().id == "better"  # type: ignore[union-attr]

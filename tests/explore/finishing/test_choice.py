"""Which file is recommended, and which one comes nearest where none can be."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.evaluation import Chance, Evaluation, Score
from autocompress.explore.finishing.choice import among, nearest, recommended
from autocompress.explore.standings.judgement import Judgement, judge
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step

MakeFile = Callable[..., Judgement]
TWICE = Budget(speedup=2)
LOST = 0.3  # a score under the middle between chance, 0.1, and the reference's, 0.9
FAR = (1.0, 0.001)  # a difference of scores that is no tie


@pytest.fixture
def file(make_latency: Callable[..., Latency]) -> MakeFile:
    """``file("a", score=0.89, ratio=0.4)``: how that file is judged, by default for twice the speed."""

    def evaluation(
        name: str, score: float, ratio: float, size: int, quiet: bool, sampled: int | None = None
    ) -> Evaluation:
        own, latency = Score(score, score - 0.01, score + 0.01, sampled=sampled), make_latency(ratio, quiet=quiet)
        return Evaluation(
            name, Recipe(), 1.0, 0, own, latency, size, 8, 5, 7, "a", name, f"graph-{name}", f"val-{name}"
        )

    def make(
        name: str,
        score: float,
        ratio: float,
        size: int = 10,
        budget: Budget = TWICE,
        quiet: bool = True,
        sampled: int | None = None,
    ) -> Judgement:
        found = evaluation(name, score, ratio, size, quiet, sampled)
        reference = evaluation("reference", 0.9, 1.0, 99, True)
        return judge(found, reference, budget, (0.9 - score, 0.001), Chance(0.1, 0.01), 1000)

    return make


def chosen(files: Sequence[Judgement], *, bounded: bool = True, **differences: tuple[float, float]) -> str | None:
    """The same whatever the order of the files."""
    found = {
        best.evaluation.id if best else None
        for best in (recommended(order, differences, bounded=bounded) for order in (files, files[::-1]))
    }
    (name,) = found
    return name


# -- with a budget of latency ------------------------------------------------------------------------------------------


def test_with_a_budget_the_most_accurate_that_keeps_it_is_recommended(file: MakeFile):
    files = [file("a", 0.85, 0.3), file("b", 0.88, 0.4), file("c", 0.89, 0.6)]
    assert chosen(files, a=FAR, c=FAR) == "b"


def test_what_was_scored_on_a_sample_alone_is_neither_recommended_nor_nearest(file: MakeFile):
    lucky, known = file("lucky", 0.9, 0.3, sampled=1000), file("known", 0.85, 0.4)
    assert not lucky.possible
    assert chosen([lucky, known]) == "known"
    assert chosen([lucky]) is None
    assert nearest([lucky, file("slow", 0.85, 0.6)]).evaluation.id == "slow"


def test_what_is_not_known_to_keep_the_budget_is_not_recommended(file: MakeFile):
    assert chosen([file("near", 0.89, 0.49), file("over", 0.89, 0.6)]) is None
    assert chosen([]) is None
    assert chosen([file("near", 0.89, 0.49), file("a", 0.85, 0.3)], near=FAR) == "a"


@pytest.mark.parametrize(
    ("difference", "tie"),
    [
        ((0.0005, 0.002), True),
        ((0.001, 0.001), True),
        ((0.0009, 0.0008), False),
        ((0.002, 0.01), False),
        ((-0.001, 0.0005), True),
    ],
    ids=["a tie", "just a tie", "clearly worse", "more than a tenth of a point", "better on the same examples"],
)
def test_one_that_is_as_good_on_the_same_examples_is_preferred_when_it_is_faster(
    difference: tuple[float, float], tie: bool, file: MakeFile
):
    files = [file("best", 0.89, 0.4), file("faster", 0.8895, 0.3)]
    assert chosen(files, best=(0.0, 0.0), faster=difference) == ("faster" if tie else "best")


def test_of_files_as_good_and_as_fast_the_smaller_is_preferred(file: MakeFile):
    files = [file("best", 0.89, 0.4, size=10), file("smaller", 0.89, 0.4, size=5)]
    assert chosen(files, best=(0.0, 0.001), smaller=(0.0, 0.001)) == "smaller"
    slower = [file("best", 0.89, 0.4, size=10), file("slower", 0.89, 0.41, size=5)]
    assert chosen(slower, best=(0.0, 0.001), slower=(0.0, 0.001)) == "best"


def test_without_a_difference_on_the_same_examples_there_is_no_tie(file: MakeFile):
    assert chosen([file("best", 0.8900, 0.4), file("faster", 0.8899, 0.3)]) == "best"


def test_one_that_is_as_good_and_over_the_budget_is_no_tie(file: MakeFile):
    assert chosen([file("best", 0.89, 0.4), file("over", 0.89, 0.6, size=1)], over=(0.0, 0.01)) == "best"


def test_what_lost_half_of_the_lead_is_not_recommended(file: MakeFile):
    assert chosen([file("lost", LOST, 0.1)]) is None
    assert chosen([file("lost", LOST, 0.1), file("a", 0.6, 0.4)]) == "a"
    asked = Budget(speedup=2, max_drop=70)
    assert chosen([file("lost", LOST, 0.1, budget=asked)]) == "lost", "who allows so much wants it"


# -- without one -------------------------------------------------------------------------------------------------------


DROP = Budget(max_drop=1.0)


def test_without_a_budget_the_fastest_that_loses_no_more_than_is_allowed_is_recommended(file: MakeFile):
    files = [
        file(name, score, ratio, budget=DROP)
        for name, score, ratio in (("a", 0.895, 0.5), ("b", 0.895, 0.3), ("lossy", 0.86, 0.1))
    ]
    assert chosen(files, bounded=False) == "b"


def test_of_those_whose_speed_cannot_be_told_from_the_fastests_the_most_accurate_is_recommended(file: MakeFile):
    """The interval of a ratio is 2.5 % on both sides."""
    files = [
        file(name, score, ratio, budget=DROP)
        for name, score, ratio in (("fastest", 0.893, 0.3), ("as fast", 0.896, 0.309), ("slower", 0.899, 0.33))
    ]
    assert chosen(files, bounded=False) == "as fast"


def test_of_files_as_fast_and_as_good_the_smaller_is_recommended(file: MakeFile):
    files = [file("large", 0.895, 0.3, 10, DROP), file("small", 0.895, 0.3, 5, DROP)]
    assert chosen(files, bounded=False) == "small"


# -- what is chosen from -----------------------------------------------------------------------------------------------


def test_files_are_chosen_among_finalists_where_one_of_them_can_be_recommended(file: MakeFile):
    final, faster = compressed(file("final", 0.88, 0.45)), compressed(file("other", 0.89, 0.3))
    assert among([final, faster], [final]) == [final]


def test_where_no_finalist_can_be_recommended_what_is_known_to_keep_the_budget_is(file: MakeFile):
    """Of the finalists one is too close to tell; the reference keeps a budget that is none."""
    undecided, kept = compressed(file("final", 0.88, 0.49)), compressed(file("other", 0.85, 0.3))
    unchanged = file("reference", 0.9, 0.45)
    assert undecided.latency is not None
    assert not undecided.latency.decided
    assert recommended(among([undecided, kept], [undecided]), {}, bounded=True) is kept
    assert among([unchanged, kept], [unchanged]) == [unchanged, kept]


# -- the nearest -------------------------------------------------------------------------------------------------------


def compressed(file: Judgement) -> Judgement:
    recipe = Recipe((Step("quantize_static", {}),))
    return replace(file, evaluation=replace(file.evaluation, recipe=recipe))


def near(*files: Judgement) -> str:
    names = {nearest(order).evaluation.id for order in (files, files[::-1])}
    (name,) = names
    return name


def test_the_most_accurate_that_may_be_within_the_budget_is_nearest(file: MakeFile):
    assert near(file("a", 0.85, 0.49), file("b", 0.88, 0.5), file("over", 0.89, 0.6)) == "b"


def test_a_busy_machine_takes_nothing_away_from_what_may_be_within_the_budget(file: MakeFile):
    assert near(file("busy", 0.88, 0.6, quiet=False), file("over", 0.89, 0.6)) == "busy"


def test_what_is_over_the_budget_as_far_as_is_known_is_not_nearer_than_what_is_within_it(file: MakeFile):
    assert near(file("over", 0.88, 0.6, quiet=False), file("within", 0.85, 0.49)) == "within"


def test_where_all_are_over_the_budget_the_one_least_over_is_nearest(file: MakeFile):
    assert near(file("a", 0.85, 0.6), file("b", 0.88, 0.8)) == "a"


def test_of_those_about_as_far_over_the_most_accurate_is_nearest(file: MakeFile):
    assert near(file("least", 0.85, 0.60), file("as near", 0.87, 0.61), file("far", 0.89, 0.8)) == "as near"


def test_without_a_budget_the_most_accurate_is_nearest(file: MakeFile):
    none: dict[str, Any] = {"budget": DROP}
    assert near(file("a", 0.85, 0.1, **none), file("b", 0.87, 0.9, **none)) == "b"


def test_what_lost_its_score_is_not_near(file: MakeFile):
    assert near(file("lost", LOST, 0.1), file("over", 0.85, 0.9)) == "over"
    assert near(file("lost", LOST, 0.1), file("worse", LOST - 0.1, 0.1)) == "lost", "unless there is no other"

"""Which files are set beside each other: the best single technique and the best combination, at each speed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from autocompress.budget import Budget
from autocompress.evaluation import Evaluation, Score
from autocompress.explore.standings.judgement import judge
from autocompress.explore.standings.rivals import rivals
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step

COMPRESSING = {"prune", "quantize"}
ALONE, BOTH = Recipe((Step.of("prune"), Step.of("teach"))), Recipe((Step.of("prune"),), Step.of("quantize"))
MakeFile = Callable[..., Evaluation]


@pytest.fixture
def file(make_latency: Callable[..., Latency]) -> MakeFile:
    def make(name: str, score: float, ratio: float, recipe: Recipe) -> Evaluation:
        latency = make_latency(ratio)
        return Evaluation(name, recipe, 1.0, 0, Score(score, score, score), latency, 9, 8, 5, 7, "a", name, name, name)

    return make


def compared(files: list[Evaluation], front: list[Evaluation], speedup: float) -> set[tuple[str, str]]:
    judged = [judge(e, files[0], Budget(speedup=speedup), None, None, 100) for e in files]
    return {(alone.id, both.id) for alone, both in rivals(judged, front, COMPRESSING)}


def test_the_best_of_either_kind_is_found_at_the_speed_of_each_file_of_the_front(file: MakeFile) -> None:
    reference, slow, best = file("r", 0.9, 1.0, Recipe()), file("slow", 0.89, 0.5, ALONE), file("best", 0.88, 0.4, BOTH)
    worse, fast = file("worse", 0.85, 0.3, ALONE), file("fast", 0.86, 0.2, BOTH)
    files = [reference, slow, best, worse, fast]
    assert compared(files, [fast, best, slow], 4) == {("slow", "best"), ("worse", "best")}
    assert compared(files, [], 2.2) == {("worse", "best")}, "of what can be recommended"
    assert compared([reference, slow], [slow], 1.5) == set(), "there is no combination"


def test_what_was_scored_on_a_sample_is_compared_with_nothing(file: MakeFile) -> None:
    reference, alone, both = file("r", 0.9, 1.0, Recipe()), file("a", 0.89, 0.5, ALONE), file("b", 0.88, 0.4, BOTH)
    sampled = replace(both, score=replace(both.score, sampled=50))
    assert compared([reference, alone, both], [alone], 1.5) == {("a", "b")}
    assert compared([reference, alone, sampled], [alone], 1.5) == set()

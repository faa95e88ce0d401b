"""What is timed again at the end, how often, and for how long."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.evaluation import Evaluation, Outcome, Score
from autocompress.explore.finishing.measuring import Measuring
from autocompress.explore.history.facts import Evaluated
from autocompress.explore.history.history import History
from autocompress.explore.standings.standings import Standings
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step

Make = Callable[..., Any]


class Timed:
    """In place of a pipeline and of clocks: each measurement takes a second and gives what ``answer`` says."""

    def __init__(self, answer: Callable[[Evaluation], Latency], whole_s: float) -> None:
        self.answer, self.whole_s = answer, whole_s
        self.asked: Counter[str] = Counter()

    async def measure_again(self, evaluation: Evaluation, *_: Any) -> Latency:
        self.asked[evaluation.id] += 1
        return self.answer(evaluation)

    def elapsed(self) -> float:
        return float(self.asked.total())

    def left(self) -> float:
        return self.whole_s - self.elapsed()


def evaluation(recipe: Recipe, score: float, latency: Latency) -> Evaluation:
    return Evaluation(recipe.id, recipe, 1.0, 0, Score(score, score, score), latency, 10, 8, 5, 7, "a", recipe.id, "v")


@pytest.fixture
def measuring(make_latency: Make, make_history: Callable[..., History]) -> Make:
    """``measuring(answer, ratios, whole_s)``: of a search for twice the speed, in which so fast families were found."""

    def make(answer: Callable[[Evaluation], Latency], ratios: list[float], whole_s: float) -> Any:
        history = make_history(replace(evaluation(Recipe(), 0.9, make_latency(1.0)), id="reference"))
        for number, ratio in enumerate(ratios):
            recipe = Recipe((Step.of("carve", units=number), Step.of("train", lr=0.002, batch_size=64)))
            found = evaluation(recipe, 0.88 + 1e-4 * number, make_latency(ratio))
            history.enter(Evaluated(recipe, Outcome(evaluations=(found,), checkpoint="w")))
        timed: Any = Timed(answer, whole_s)
        time: Any = SimpleNamespace(effort_s=lambda: 1.0, closing_s=lambda: 0.0, can_measure=lambda: True)
        within: Any = SimpleNamespace(within=lambda limit_s: limit_s)
        standings = Standings(history, Budget(speedup=2))
        made = Measuring(timed, standings, time, history, timed, within, lambda: None)
        return made, timed

    return make


@pytest.mark.parametrize(("whole_s", "count"), [(79.0, 8), (81.0, 10), (10_000.0, 12)])
def test_a_tenth_of_the_time_goes_into_finalists_that_turn_out_too_slow(
    whole_s: float, count: int, measuring: Make, make_latency: Make
):
    """Two at a time, and twelve at most."""
    made, timed = measuring(lambda _: make_latency(0.9), [0.3] * 20, whole_s)
    asyncio.run(made.confirm_finalists())
    assert timed.asked.total() == count


@pytest.mark.parametrize(("ratio", "times"), [(0.3, 1), (0.455, 1), (0.465, 3)])
def test_a_finalist_near_the_budget_is_timed_three_times(ratio: float, times: int, measuring: Make, make_latency: Make):
    made, timed = measuring(lambda e: e.latency, [ratio], 400.0)
    asyncio.run(made.confirm_finalists())
    assert timed.asked.total() == times


def test_what_is_disturbed_every_time_is_timed_six_times(measuring: Make, make_latency: Make):
    made, timed = measuring(lambda e: make_latency(e.latency.ratio, reliable=e.latency.ratio < 0.4), [0.3, 0.45], 400.0)
    asyncio.run(made.measure_front())
    assert sorted(timed.asked.values()) == [3, 6]

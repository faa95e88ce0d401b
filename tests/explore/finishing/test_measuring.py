"""What is timed at the end, how often, and in which order."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.comparison import TimingSession
from autocompress.evaluation import Evaluation, Outcome, Score
from autocompress.explore.finishing.measuring import Measuring
from autocompress.explore.history.facts import Chosen, Evaluated, Timed
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.timed_graphs import WHOLE_SHARE, TimedGraphs
from autocompress.explore.standings.standings import Standings
from autocompress.latency import Latency
from autocompress.recipe import Recipe, Step

Make = Callable[..., Any]
PATIENT_S = 4.0


class Sessions:
    """In place of a pipeline and of clocks: each session takes a second and gives what ``answer`` says."""

    def __init__(self, answer: Callable[[Evaluation], TimingSession], whole_s: float) -> None:
        self.answer, self.whole_s, self.limit_s = answer, whole_s, whole_s
        self.asked: Counter[str] = Counter()
        self.order: list[str] = []
        self.seconds: list[float] = []
        self.timed = TimedGraphs()
        self.session_s = 1.0

    async def session(self, evaluation: Evaluation, seconds: float, *_: Any) -> TimingSession:
        self.asked[evaluation.id] += 1
        self.order.append(evaluation.id)
        self.seconds.append(seconds)
        session = replace(self.answer(evaluation), file=evaluation.digest)
        self.timed.add(evaluation.graph, [session])
        return session

    def elapsed(self) -> float:
        return float(self.asked.total())

    def left(self) -> float:
        return self.whole_s - self.elapsed()


def evaluation(recipe: Recipe, score: float, latency: Latency) -> Evaluation:
    return Evaluation(
        recipe.id, recipe, 1.0, 0, Score(score, score, score), latency, 10, 8, 5, 7, "a", recipe.id, str(recipe), "v"
    )


@pytest.fixture
def measuring(make_latency: Make, make_history: Callable[..., History]) -> Make:
    """``measuring(answer, ratios, whole_s)``: of a search for twice the speed, in which so fast families were found,
    the later the more accurate, each timed in one session. chosen: the finalists are.
    """

    def make(
        answer: Callable[[Evaluation], TimingSession], ratios: list[float], whole_s: float = 1e4, *, chosen: bool = True
    ) -> tuple[Measuring, Sessions, Standings]:
        history = make_history(replace(evaluation(Recipe(), 0.9, make_latency(1.0)), id="reference"))
        timed: Any = Sessions(answer, whole_s)
        for number, ratio in enumerate(ratios):
            recipe = Recipe((Step.of("carve", units=number), Step.of("train", lr=0.002, batch_size=64)))
            found = evaluation(recipe, 0.88 + 1e-4 * number, make_latency(ratio, sessions=1))
            timed.timed.add(found.graph, found.latency.sessions)
            history.enter(Evaluated(recipe, Outcome(evaluations=(found,), checkpoint="w")))
        if chosen:
            history.enter(Chosen(()))
        time: Any = SimpleNamespace(
            closing_s=lambda: 0.0,
            judging_s=lambda: 0.0,
            can_measure=lambda: timed.left() > 0,
            patient_s=lambda sessions, measuring_s: PATIENT_S,
        )
        within: Any = SimpleNamespace(within=lambda limit_s: limit_s)
        standings = Standings(history, Budget(speedup=2))
        return Measuring(timed, standings, time, history, timed, within, lambda: None), timed, standings

    return make


@pytest.mark.parametrize(("whole_s", "count"), [(106.0, 6), (212.0, 12)])
def test_no_more_than_the_share_of_measuring_goes_into_finalists_that_turn_out_too_slow(
    whole_s: float, count: int, measuring: Make, make_session: Make
):
    """Two at a time."""
    made, timed, _ = measuring(lambda _: make_session(0.9), [0.47] * 20, whole_s)
    asyncio.run(made.confirm_finalists())
    assert timed.asked.total() == count


def test_finalists_are_timed_until_their_graphs_have_three_quiet_sessions(measuring: Make, make_session: Make):
    made, timed, _ = measuring(lambda e: make_session(e.latency.ratio), [0.48, 0.49])
    asyncio.run(made.confirm_finalists())
    assert list(timed.asked.values()) == [2, 2]


def test_a_finalist_that_surely_keeps_the_budget_is_trained_as_it_is(measuring: Make, make_session: Make):
    made, timed, _ = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.4])
    asyncio.run(made.confirm_finalists())
    assert not timed.asked


def test_on_a_machine_that_is_never_quiet_they_are_timed_four_times(measuring: Make, make_session: Make):
    made, timed, _ = measuring(lambda e: make_session(e.latency.ratio, quiet=False), [0.48])
    asyncio.run(made.confirm_finalists())
    assert list(timed.asked.values()) == [3]


def test_the_three_most_accurate_are_judged_by_three_sessions_each_in_turn(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.2, 0.4, 0.3, 0.9])
    asyncio.run(made.judge_finalists())
    best = sorted(standings.families.values(), key=lambda f: -f.evaluations[0].score.val)[1:4]
    assert timed.order == [f.evaluations[0].id for f in best] * 3, "0.9 is over the budget"
    assert all(standings.is_final(f.evaluations[0]) for f in best)


def test_where_the_last_sessions_found_no_quiet_moments_the_next_ones_do_not_wait_for_any(
    measuring: Make, make_session: Make
):
    made, timed, _ = measuring(lambda e: make_session(e.latency.ratio, quiet=False), [0.3, 0.2])
    asyncio.run(made.judge_finalists())
    assert timed.seconds == [PATIENT_S] * 4 + [timed.session_s] * 2, "of two files in turn; three in vain are enough"


def test_what_three_sessions_do_not_decide_is_given_four_more(measuring: Make, make_session: Make):
    made, timed, _ = measuring(lambda e: make_session(0.49 if e.latency.ratio > 0.4 else 0.3), [0.3, 0.48])
    asyncio.run(made.judge_finalists())
    assert sorted(timed.asked.values()) == [3, 7]


def test_what_is_open_behind_a_file_that_can_be_recommended_stays_open(measuring: Make, make_session: Make):
    made, timed, _ = measuring(lambda e: make_session(0.49 if e.latency.ratio > 0.4 else 0.3), [0.48, 0.3])
    asyncio.run(made.judge_finalists())
    assert sorted(timed.asked.values()) == [3, 3]


def test_where_measuring_has_had_its_share_finalists_get_what_a_verdict_needs_and_no_more(
    measuring: Make, make_session: Make
):
    made, timed, _ = measuring(lambda e: make_session(0.49), [0.3, 0.48])
    timed.timed.spent_s = WHOLE_SHARE * timed.limit_s
    asyncio.run(made.confirm_finalists())
    assert not timed.asked
    asyncio.run(made.judge_finalists())
    assert sorted(timed.asked.values()) == [3, 3]
    asyncio.run(made.time_front())
    assert timed.asked.total() == 6


def test_while_none_of_the_three_can_be_recommended_the_next_ones_are_judged(measuring: Make, make_session: Make):
    slow_and_sound = [0.4, 0.4, 0.4, 0.45, 0.45, 0.45]
    made, timed, _ = measuring(lambda e: make_session(0.4 if e.latency.ratio < 0.43 else 0.6), slow_and_sound)
    asyncio.run(made.judge_finalists())
    assert list(timed.asked.values()) == [3] * 6


def test_nothing_is_timed_once_the_time_that_is_left_is_for_the_tests(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.3, 0.3], 4.0)
    asyncio.run(made.judge_finalists())
    assert timed.asked.total() == 4
    assert not any(standings.is_final(e) for e in standings.candidates() if e.recipe.changes), "none has three"


def test_of_the_front_what_has_few_sessions_is_timed_until_its_graph_is_well_known(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.35, 0.4])
    asyncio.run(made.time_front())
    faster = {e.id for e in standings.front()} - {"reference"}
    assert timed.asked == dict.fromkeys(faster, 2), "each was timed once before"
    assert not any(standings.is_final(e) for e in standings.candidates() if e.recipe.changes)


def test_the_front_is_timed_further_where_its_sessions_differ(measuring: Make, make_session: Make):
    """Of two that are 4 % apart the interval of the next one goes beyond the reference."""
    made, timed, standings = measuring(lambda e: make_session(0.85), [0.85])
    (file,) = (family.evaluations[0] for family in standings.families.values())
    standings._history.enter(Timed(file.graph, replace(make_session(0.85 * 1.04), file=file.digest)))
    timed.timed.add(file.graph, standings.measured.graphs[file.graph])
    assert standings.measured.current(file).latency.ratio_next_high > 1
    asyncio.run(made.time_front())
    assert timed.asked == {file.id: 1}


def test_what_is_to_be_recommended_by_few_sessions_is_judged_first(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(0.7), [0.4], chosen=False)
    (file,) = (family.evaluations[0] for family in standings.families.values())
    standings._history.enter(Timed(file.graph, replace(make_session(0.4), file=file.digest)))
    standings._history.enter(Chosen(()))
    assert asyncio.run(made.judge(file))
    assert standings.is_final(file)
    (judged,) = (j for j in standings.judgements() if j.evaluation.id == file.id)
    assert judged.latency.answer == "not met", "it was fast by chance in its one session"
    assert not asyncio.run(made.judge(file))
    assert timed.asked == {file.id: 3}


def test_what_is_no_faster_than_the_reference_is_not_timed_further(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.97])
    (slow,) = (e.id for e in standings.front() if 0.9 < e.latency.ratio < 1)
    asyncio.run(made.time_front())
    assert timed.asked
    assert slow not in timed.asked


def test_the_front_is_timed_for_a_small_share_of_the_search(measuring: Make, make_session: Make):
    made, timed, _ = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.35, 0.4], 60.0)
    asyncio.run(made.time_front())
    assert timed.asked.total() == 2, "a session takes a second here, and three hundredths of a minute are 1.8"


def test_a_file_that_its_graph_was_never_timed_with_is_timed_once_itself(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.4])
    known, new = (standings.families[name].evaluations[0] for name in standings.families)
    for _ in range(3):
        standings._history.enter(Timed(new.graph, replace(make_session(0.4), file="of an earlier rung")))
    asyncio.run(made.judge_finalists())
    assert timed.asked == {known.id: 3, new.id: 1}


def test_one_that_is_not_as_its_graph_is_timed_until_it_stands_alone(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(0.45), [0.4])
    (file,) = (family.evaluations[0] for family in standings.families.values())
    for _ in range(3):
        standings._history.enter(Timed(file.graph, replace(make_session(0.4), file="of an earlier rung")))
    asyncio.run(made.judge_finalists())
    assert timed.asked[file.id] >= 2
    assert standings.measured.stands_alone(file)


async def beside_a_training(made: Measuring, standings: Standings, seconds: float) -> None:
    training = asyncio.ensure_future(asyncio.sleep(seconds))
    await made.beside(training, standings.finalists(1), seconds)
    await training


def test_beside_a_training_finalists_and_the_front_are_timed_in_turn(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.35, 0.4])
    asyncio.run(beside_a_training(made, standings, 0.5))
    files = [family.evaluations[0] for family in standings.families.values()]
    assert timed.asked == dict.fromkeys((e.id for e in files), 3)
    assert all(len(set(timed.order[turn : turn + 3])) == 3 for turn in (0, 3, 6)), "each before any of them once more"
    assert all(standings.is_final(e) for e in files)
    before = timed.asked.copy()
    asyncio.run(made.judge_finalists())
    asyncio.run(made.time_front())
    assert timed.asked == before, "nothing is left to be timed"


def test_what_is_timed_beside_a_training_is_spread_over_it_and_ends_with_it(measuring: Make, make_session: Make):
    made, timed, standings = measuring(lambda e: make_session(e.latency.ratio), [0.3, 0.4])

    async def cut_short() -> None:
        await made.beside(asyncio.ensure_future(asyncio.sleep(0.2)), standings.finalists(1), 1e4)

    asyncio.run(cut_short())
    assert not timed.asked


def test_beside_a_training_where_nothing_is_quiet_little_is_tried_and_it_is_made_up_for(
    measuring: Make, make_session: Make
):
    answers = {"quiet": False}
    made, timed, standings = measuring(lambda e: make_session(e.latency.ratio, **answers), [0.3, 0.35, 0.4])
    asyncio.run(beside_a_training(made, standings, 0.5))
    assert timed.asked.total() == 3
    answers["quiet"] = True
    asyncio.run(made.judge_finalists())
    files = [family.evaluations[0] for family in standings.families.values()]
    quiet = [sum(not s.busy for s in standings.measured.final_sessions(file)) for file in files]
    assert quiet == [3, 3, 3]

"""The end of a search: finalists train in full, the front is measured again beside the reference, one model is
chosen, tested once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation
from autocompress.explore import rungs
from autocompress.explore.concurrency import all_done
from autocompress.explore.facts import Concluded, FinalMeasured, RepeatMeasured, ScoredOnTest
from autocompress.explore.family import Family
from autocompress.explore.front import WITHIN, prefer_faster
from autocompress.explore.objective import point
from autocompress.explore.standings import Standings
from autocompress.explore.structure_model import MARGIN
from autocompress.latency import Latency
from autocompress.measure import Effort, settled

if TYPE_CHECKING:
    from autocompress.explore.driver import Search

FINALISTS = 3  # without a budget; the front has several
CONTENDERS = 2  # under a budget: the better one of them, trained equally long, has the time
TRIAL_SHARE = 0.15  # of the time that is left, for a contender to catch up with the other
STRETCH = 4  # a finalist trains at most this many times the last rung's length, if time is left
CONFIRMED_SHARE = 0.1  # of the time that is left, for timing the finalists again
CLOSE = 0.08  # of the budget: what is nearer to it than this can turn out on either side
CHECKED = 12  # files measured again at the end
ROUNDS = 3  # of measuring again, so that a disturbance of some seconds is in one of them only
MOST_ROUNDS = 6  # of what was disturbed in all of those, while there is time
MOST_PREFERRED = 4  # of what can be recommended, measured again first and even when dominated
REMEASURE_LIMIT_S = 120.0
TEST_LIMIT_S = 120.0  # more than it should take to score files on the test split
TEST_SLACK = 4  # times what it should take


async def finish(search: "Search", standings: Standings) -> None:
    """Train the finalists as far as the time allows, then conclude.

    Under a budget only one model is recommended: when two contenders have been trained equally long, the better one has
    all the time that is left. Without, the finalists share it.
    """
    if standings.steering.bounded:
        await _confirm(search, standings)
        contenders = standings.finalists(CONTENDERS, MARGIN)
        level = min(max(1, *(family.rung for family in contenders)), rungs.LAST) if len(contenders) > 1 else 0
        behind = [family for family in contenders if family.rung < level]
        seconds = TRIAL_SHARE * (search.clock.left() - search.time.closing_s())
        await _train_on(search, behind, search.time.lengths[level].examples, seconds * len(behind))
    finalists = standings.finalists(1 if standings.steering.bounded else FINALISTS, MARGIN)
    left = search.clock.left() - search.time.closing_s()
    await _train_on(search, finalists, STRETCH * search.time.lengths[-1].examples, left)
    await conclude(search, standings)


async def _train_on(search: "Search", families: Sequence[Family], most: int, seconds: float) -> None:
    """Train finalists on, each up to ``most`` examples more, or until all have had their share of the seconds, with
    what it takes to make and measure their files.
    """
    concurrency = max(1, min(search.executor.concurrency, len(families)))
    began, waiting = search.clock.elapsed(), list(families)

    async def work() -> None:
        while waiting:
            share = (began + seconds - search.clock.elapsed()) * concurrency / max(len(waiting), concurrency)
            family = waiting.pop(0)
            training = share - search.durations.overhead_s()
            if training < 0.3 * family.train_s:
                continue  # too little to be worth a re-warming
            search.check_interrupted()
            total = rungs.Length(family.train_s + training, family.examples + most)
            await search.advance(family, total)
            search.show()

    with search.executor.sharing(concurrency):
        await all_done(work() for _ in range(concurrency))


async def _confirm(search: "Search", standings: Standings) -> None:
    """Time the finalists again before they are trained: how long a graph takes does not depend on its weights, and one
    that was timed too fast by chance would cost all the time that is left. Those near the budget several times.
    """
    effort = Effort(seconds=search.time.effort_s(), blocks=16, width=0.01, attempts=1)
    until = search.clock.elapsed() + CONFIRMED_SHARE * (search.clock.left() - search.time.closing_s())
    done: set[str] = set()
    while len(done) < CHECKED and search.clock.elapsed() < until:
        best = [standings.standing(family).best for family in standings.finalists(CONTENDERS, MARGIN)]
        unsure = [e for e in best if e.recipe.id not in done]
        if not unsure:
            return
        for evaluation in unsure:
            done.add(evaluation.recipe.id)
            near = abs(standings.steering.excess(standings.expected(evaluation))) <= CLOSE
            for _ in range(ROUNDS if near else 1):
                latency = await _again(search, evaluation, effort)
                if latency is not None:
                    search.history.enter(RepeatMeasured(evaluation.recipe, latency))


async def conclude(search: "Search", standings: Standings) -> None:
    """Measure the front again, choose, and open the test split for what is on it."""
    with search.executor.sharing(1):
        await _measure_again(search, standings)
        recommended = await recommend(search, standings)
        search.history.enter(Concluded(recommended.id) if recommended else Concluded(nearest=nearest(standings).id))
        await _test_once(search, standings)
    search.save_progress()


async def recommend(search: "Search", standings: Standings) -> Evaluation | None:
    """The most accurate feasible finalist, or a faster one as good on the same examples; without a budget the
    fastest within ``max_drop``. None when nothing is feasible."""
    within = [
        e for e in standings.candidates() if standings.feasible(e) and (e.id in standings.final or e.id == "reference")
    ]
    if not within:
        return None
    ordered = sorted(within, key=_preference(standings))
    if not standings.budget.bounded:
        return ordered[0]
    # Only these can be as good as the most accurate one.
    ordered = [e for e in ordered if e.score.val >= ordered[0].score.val - WITHIN - 1e-9]
    try:
        limit = search.durations.within(TEST_LIMIT_S)
        differences = await search.executor.call("compare", ordered[0], ordered, limit_s=limit)
    except CandidateFailed:  # without the stored outputs nothing can be shown to be as good
        return ordered[0]
    return ordered[prefer_faster([point(e) for e in ordered], differences)]


def _preference(standings: Standings) -> Callable[[Evaluation], tuple[float, float]]:
    """Sorts what is feasible: under a budget the most accurate first, without one the fastest."""
    if standings.budget.bounded:
        return lambda e: (-e.score.val, e.latency.ratio)
    return lambda e: (e.latency.ratio, -e.score.val)


def nearest(standings: Standings) -> Evaluation:
    """What came nearest to the budget when nothing meets it: of those fast enough the most accurate, else the
    fastest.
    """
    sound = [e for e in standings.candidates() if e.latency.reliable] or standings.candidates()
    fast = [e for e in sound if standings.budget.excess(e.latency) <= 0]
    return (
        max(fast, key=lambda e: e.score.val) if fast else min(sound, key=lambda e: standings.budget.excess(e.latency))
    )


async def _measure_again(search: "Search", standings: Standings) -> None:
    """The front and the most accurate within the budget, side by side with the reference. What moves the front is
    measured too.
    """
    effort = Effort(seconds=search.time.effort_s() / ROUNDS, blocks=12, width=0.01, attempts=1)
    measured = 0
    for _ in range(3):
        chosen = _unchecked(standings)[: CHECKED - measured]
        if not chosen:
            return
        timed: dict[str, list[Latency]] = {e.id: [] for e in chosen}
        for number in range(MOST_ROUNDS):
            for evaluation in chosen:
                if number < ROUNDS or not any(latency.reliable for latency in timed[evaluation.id]):
                    latency = await _again(search, evaluation, effort)
                    timed[evaluation.id] += [latency] if latency is not None else []
        found = {e.id: latency for e in chosen if (latency := last_of(e, timed[e.id])) is not None}
        measured += len(chosen)
        search.history.enter(FinalMeasured(found, kept={e.id: e.latency for e in chosen if e.id not in found}))


def _unchecked(standings: Standings) -> list[Evaluation]:
    """What is to be measured again and was not yet: what can be recommended first, or could were its measurement not
    disturbed, then the front, then what would be on it.
    """
    disturbed = standings.disturbed()
    hopeful = [e for e in disturbed if standings.feasible(replace(e, latency=replace(e.latency, reliable=True)))]
    preferred = sorted(
        [e for e in standings.candidates() if standings.feasible(e)] + hopeful, key=_preference(standings)
    )
    wanted = {e.id: e for e in (*preferred[:MOST_PREFERRED], *standings.front(), *disturbed)}
    return [e for e in wanted.values() if e.id != "reference" and e.id not in standings.final]


def last_of(evaluation: Evaluation, again: Sequence[Latency]) -> Latency | None:
    """What a file takes after it was measured ``again``; None when it stays what it was: disturbed measurements do not
    overrule a sound one.
    """
    if evaluation.latency.reliable:
        return settled([latency for latency in again if latency.reliable])
    return settled([*again, evaluation.latency])


async def _again(search: "Search", evaluation: Evaluation, effort: Effort) -> Latency | None:
    """A file's latency measured again; None when the time that is left is for the tests, or it cannot be measured."""
    search.check_interrupted()
    if not search.time.can_measure():
        return None
    try:
        limit = search.durations.within(REMEASURE_LIMIT_S)
        latency: Latency = await search.executor.call("remeasure", evaluation, effort, limit_s=limit)
    except CandidateFailed:
        return None
    return latency


async def _test_once(search: "Search", standings: Standings) -> None:
    """Score the front, the recommended one and the reference on the test split; a file once tested is not tested
    again.
    """
    if not search.opening.test_examples:
        return
    concluded, final = standings.concluded, standings.final
    wanted = {
        "reference",
        concluded.recommended,
        concluded.nearest,
        *(e.id for e in standings.front() if e.id in final),
    }
    chosen = {e.id: e for e in standings.candidates() if e.id in wanted}
    new = [e for e in chosen.values() if e.digest not in standings.tests]
    if not new:
        return
    try:
        scores: list[float] = await search.executor.call(
            "test", new, limit_s=TEST_LIMIT_S + TEST_SLACK * search.time.tested_s()
        )
    except CandidateFailed as error:
        search.view.note(f"the test split could not be scored: {error.reason}")
        return
    finite = {e.digest: score for e, score in zip(new, scores, strict=True) if math.isfinite(score)}
    if len(finite) < len(new):
        search.view.note(
            f"the metric is not a finite number on the test split for {len(new) - len(finite)} of {len(new)} files: "
            "they have no test score"
        )
    search.history.enter(ScoredOnTest(finite))

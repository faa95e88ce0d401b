"""Files measured again: finalists before they are trained in full, the front at the end."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.finishing.recommendation import preference
from autocompress.explore.history.facts import FinalMeasured, RepeatMeasured
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.schedule.time_budget import CONTENDERS, MEASURED_AGAIN, MOST_PREFERRED, TimeBudget
from autocompress.explore.space.structure_model import MARGIN
from autocompress.explore.standings.standings import Standings
from autocompress.latency import Latency
from autocompress.measure import Effort, settled

CONFIRMING = Effort(blocks=16, width=0.01, attempts=1)  # of a finalist
IN_A_ROUND = Effort(blocks=12, width=0.01, attempts=1)  # of a file of the front
CONFIRMED_SHARE = 0.1  # of the time that is left, for timing the finalists again
UNDECIDED_WITHIN = 0.08  # of the budget: what is nearer to it than this can turn out on either side
ROUNDS = 3  # of measuring again, so that a disturbance of some seconds is in one of them only
MOST_ROUNDS = 6  # of what was disturbed in all of those, while there is time
FRONT_MOVES = 3  # times that the front is looked at, since what is measured again can move it
REMEASURE_LIMIT_S = 120.0


class Measuring:
    """check_interrupted: raises Interrupted when the search is to stop."""

    def __init__(
        self,
        pipeline: Pipeline,
        standings: Standings,
        time: TimeBudget,
        history: History,
        clock: Clock,
        durations: Durations,
        check_interrupted: Callable[[], None],
    ) -> None:
        self._pipeline = pipeline
        self._standings = standings
        self._time = time
        self._history = history
        self._clock = clock
        self._durations = durations
        self._check_interrupted = check_interrupted

    async def confirm_finalists(self) -> None:
        """Time the finalists again before they are trained: how long a graph takes does not depend on its weights, and
        one that was timed too fast by chance would cost all the time that is left. Those near the budget several times.
        """
        effort = replace(CONFIRMING, seconds=self._time.effort_s())
        until = self._clock.elapsed() + CONFIRMED_SHARE * (self._clock.left() - self._time.closing_s())
        done: set[str] = set()
        while len(done) < MEASURED_AGAIN and self._clock.elapsed() < until:
            finalists = self._standings.finalists(CONTENDERS, MARGIN)
            best = [self._standings.standing(family).best for family in finalists]
            unsure = [e for e in best if e.recipe.id not in done]
            if not unsure:
                return
            for evaluation in unsure:
                done.add(evaluation.recipe.id)
                near = abs(self._standings.steering.excess(self._standings.expected(evaluation))) <= UNDECIDED_WITHIN
                for _ in range(ROUNDS if near else 1):
                    latency = await self._again(evaluation, effort)
                    if latency is not None:
                        self._history.enter(RepeatMeasured(evaluation.recipe, latency))

    async def measure_front(self) -> None:
        """The front and the most accurate within the budget, side by side with the reference. What moves the front is
        measured too.
        """
        effort = replace(IN_A_ROUND, seconds=self._time.effort_s() / ROUNDS)
        measured = 0
        for _ in range(FRONT_MOVES):
            chosen = self._unchecked()[: MEASURED_AGAIN - measured]
            if not chosen:
                return
            timed: dict[str, list[Latency]] = {e.id: [] for e in chosen}
            for number in range(MOST_ROUNDS):
                for evaluation in chosen:
                    if number < ROUNDS or not any(latency.reliable for latency in timed[evaluation.id]):
                        latency = await self._again(evaluation, effort)
                        timed[evaluation.id] += [latency] if latency is not None else []
            found = {e.id: latency for e in chosen if (latency := last_of(e, timed[e.id])) is not None}
            measured += len(chosen)
            self._history.enter(FinalMeasured(found, kept={e.id: e.latency for e in chosen if e.id not in found}))

    def _unchecked(self) -> list[Evaluation]:
        """What is to be measured again and was not yet: what can be recommended first, or could were its measurement
        not disturbed, then the front, then what would be on it.
        """
        standings = self._standings
        disturbed = standings.disturbed()
        hopeful = [e for e in disturbed if standings.feasible(replace(e, latency=replace(e.latency, reliable=True)))]
        feasible = [e for e in standings.candidates() if standings.feasible(e)]
        preferred = sorted(feasible + hopeful, key=preference(standings))[:MOST_PREFERRED]
        wanted = {e.id: e for e in (*preferred, *standings.front(), *disturbed)}
        return [e for e in wanted.values() if e.id != "reference" and e.id not in standings.final]

    async def _again(self, evaluation: Evaluation, effort: Effort) -> Latency | None:
        """A file's latency measured again; None when the time that is left is for the tests, or it cannot be
        measured.
        """
        self._check_interrupted()
        if not self._time.can_measure():
            return None
        try:
            return await self._pipeline.measure_again(evaluation, effort, self._durations.within(REMEASURE_LIMIT_S))
        except CandidateFailed:
            return None


def last_of(evaluation: Evaluation, again: Sequence[Latency]) -> Latency | None:
    """What a file takes after it was measured ``again``; None when it stays what it was: disturbed measurements do not
    overrule a sound one.
    """
    if evaluation.latency.reliable:
        return settled([latency for latency in again if latency.reliable])
    return settled([*again, evaluation.latency])

"""Sessions at the end: finalists before they are trained in full, what may be recommended, the front."""

from collections.abc import Callable, Sequence
from itertools import takewhile

from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.history.facts import Timed
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.pipeline.timed_graphs import JUDGING_SESSIONS
from autocompress.explore.schedule.time_budget import (
    CONTENDERS,
    JUDGED,
    MEASURED_AGAIN,
    TimeBudget,
)
from autocompress.explore.standings.judgement import fastest_first, most_accurate_first
from autocompress.explore.standings.standings import Standings

CONFIRMED_SHARE = 0.1  # of the time that is left, for timing the finalists further
FRONT_SHARE = 0.03  # of the whole time, for timing the front once more
GROUPS = 3  # of finalists, one after another, while none of them can be recommended
SESSION_LIMIT_S = 120.0


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
        """Time the finalists' graphs further before they are trained: how long a graph takes does not depend on its
        weights, and one that was timed too fast by chance would cost all the time that is left. What judging them takes
        at least is not spent on it.
        """
        seconds = CONFIRMED_SHARE * (self._clock.left() - self._time.closing_s())
        until = self._clock.elapsed() + min(seconds, self._measuring_s() - self._time.judging_s())
        failed: set[str] = set()
        while self._clock.elapsed() < until:
            best = [self._standings.standing(family).best for family in self._standings.finalists(CONTENDERS)]
            unsure = [e for e in best if not self._pipeline.timed.well_known(e.graph) and e.id not in failed]
            if not unsure:
                return
            failed |= {e.id for e in unsure if not await self._timed(e, self._pipeline.session_s)}

    async def judge_finalists(self) -> None:
        """Time what may be recommended in sessions begun after it was chosen, the files in turn. Where none of them can
        be, the next ones.
        """
        for _ in range(GROUPS):
            new = [e for e in self._hopeful()[:JUDGED] if not self._standings.is_final(e)]
            if not new:
                return
            await self._in_turn(new, JUDGING_SESSIONS[0])
            if self._measuring_s() > 0:
                await self._in_turn(self._unsure(new), JUDGING_SESSIONS[1] - JUDGING_SESSIONS[0])
            if any(j.recommendable and self._standings.is_final(j.evaluation) for j in self._standings.judgements()):
                return

    async def time_front(self) -> None:
        """Time the reference and the files of the front further, in turn, until all of their graphs are well known."""
        front = [self._standings.opening.reference, *self._standings.front()[:MEASURED_AGAIN]]
        until = self._clock.elapsed() + min(FRONT_SHARE * self._clock.limit_s, self._measuring_s())
        few = list({e.graph: e for e in front}.values())
        while few := [e for e in few if not self._pipeline.timed.well_known(e.graph)]:
            for evaluation in tuple(few):
                if self._clock.elapsed() >= until:
                    return
                if not await self._timed(evaluation, self._pipeline.session_s):
                    few.remove(evaluation)

    def _unsure(self, judged: Sequence[Evaluation]) -> list[Evaluation]:
        """Of files that were judged, the best first, those before the first that can be recommended whose latency is
        undecided.
        """
        found = {j.evaluation.id: j for j in self._standings.judgements()}
        better = list(takewhile(lambda e: not found[e.id].recommendable, judged))
        return [e for e in better if (latency := found[e.id].latency) is not None and not latency.decided]

    def _hopeful(self) -> list[Evaluation]:
        """What can be recommended, or may be once it is timed for it, the best first."""
        order = most_accurate_first if self._standings.budget.bounded else fastest_first
        final = self._standings.is_final
        hopeful = [
            j for j in self._standings.judgements() if j.hopeful and (j.recommendable or not final(j.evaluation))
        ]
        return [j.evaluation for j in order(hopeful)]

    async def _in_turn(self, finalists: Sequence[Evaluation], rounds: int) -> None:
        """So many sessions of each; one that fails is left out."""
        left = list(finalists)
        for done in range(rounds):
            sessions = (rounds - done) * len(left)
            patient_s = self._time.patient_s(sessions, self._measuring_s()) if left else 0.0
            left = [e for e in left if await self._timed(e, patient_s, finalist=True)]

    def _measuring_s(self) -> float:
        """Seconds that measuring may still take."""
        return self._pipeline.timed.left_s(self._clock.limit_s)

    async def _timed(self, evaluation: Evaluation, seconds: float, *, finalist: bool = False) -> bool:
        """One more session of a file, which may take so long. False when the time that is left is for the tests, or it
        cannot be timed.
        """
        self._check_interrupted()
        if not self._time.can_measure():
            return False
        try:
            session = await self._pipeline.session(evaluation, seconds, self._durations.within(SESSION_LIMIT_S))
        except CandidateFailed:
            return False
        self._history.enter(Timed(evaluation.graph, session, evaluation.id if finalist else None))
        return True

"""Sessions at the end: finalists before they are trained in full, what may be recommended and the front while they are,
and what that left open.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile

from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.history.facts import Timed
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import History
from autocompress.explore.pipeline.pipeline import Pipeline
from autocompress.explore.pipeline.timed_graphs import AT_MOST, JUDGING_SESSIONS
from autocompress.explore.schedule.time_budget import (
    CONTENDERS,
    JUDGED,
    MEASURED_AGAIN,
    TimeBudget,
)
from autocompress.explore.standings.judgement import Judgement, fastest_first, most_accurate_first
from autocompress.explore.standings.standings import Standings

CONFIRMED_SHARE = 0.1  # of the time that is left, for timing the finalists further
FRONT_SHARE = 0.03  # of the whole time, for timing the front once more
OWN_BESIDE = 2  # files of the finalists, timed beside their training with what may be recommended as it stands
BESIDE_SHARE = 0.9  # of a training of finalists, over which the sessions beside it are spread
KNOWN_BELOW = 0.95  # of the reference's time, by estimate: a file of the front that is worth knowing well
IN_VAIN_BESIDE = 3  # busy sessions beside a training, after which no more are begun
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
        """Time the finalists' graphs further before they are trained, where it is open whether they keep the budget:
        how long a graph takes does not depend on its weights, and one that was timed too fast by chance would cost all
        the time that is left. What judging them takes at least is not spent on it.
        """
        seconds = CONFIRMED_SHARE * (self._clock.left() - self._time.closing_s())
        until = self._clock.elapsed() + min(seconds, self._measuring_s() - self._time.judging_s())
        failed: set[str] = set()
        while self._clock.elapsed() < until:
            best = [self._standings.standing(family).best for family in self._standings.finalists(CONTENDERS)]
            unsure = [e for e in best if self._may_be_over(e) and e.id not in failed]
            if not unsure:
                return
            failed |= {e.id for e in unsure if not await self._timed(e, self._pipeline.session_s)}

    async def beside(self, training: "asyncio.Future[None]", families: Sequence[Family], seconds: float) -> None:
        """Time what may be recommended and the front, the files in turn, while finalists are trained: how long a graph
        takes does not depend on its weights. Where nothing is quiet beside the training the rest is timed after it.
        families: the finalists. seconds: that the training may take; the sessions are spread over it.
        """
        until, asked, in_vain = self._clock.elapsed() + BESIDE_SHARE * seconds, Counter[str](), 0
        while wanted := [e for e in self._wanted(families) if asked[e.graph] < AT_MOST]:
            sessions = sum(max(1, self._missing(e, JUDGING_SESSIONS[0])) for e in wanted)
            pause_s = max(0.0, (until - self._clock.elapsed()) / sessions)
            ended, _ = await asyncio.wait({training}, timeout=pause_s)
            if ended:
                return
            least = min(wanted, key=lambda e: asked[e.graph])
            asked[least.graph] += 1
            if not await self._timed(least, self._pipeline.session_s):
                asked[least.graph] = AT_MOST
            elif self._pipeline.timed.of(least.graph)[-1].busy:
                in_vain += 1
                if in_vain == IN_VAIN_BESIDE:
                    return

    async def judge_finalists(self) -> None:
        """Time what may be recommended, the files in turn, until each has as many sessions since the finalists were
        chosen as a verdict needs. Where none of them can be recommended, the next ones.
        """
        judged: set[str] = set()
        for _ in range(GROUPS):
            best = self._hopeful(judged)[:JUDGED]
            if judged.issuperset(e.id for e in best):
                return
            await self._in_turn(best, JUDGING_SESSIONS[0])
            if self._measuring_s() > 0:
                await self._in_turn(self._unsure(best), JUDGING_SESSIONS[1])
            judged |= {e.id for e in best}
            judged_now = [j for j in self._standings.judgements() if self._standings.is_final(j.evaluation)]
            if any(j.recommendable_but_for_classes for j in judged_now):
                return

    async def judge(self, evaluation: Evaluation) -> bool:
        """Time a file that is to be recommended as often since the finalists were chosen as a verdict needs, and itself
        once: one that was chosen for being fast in few sessions may be so by chance. Whether it was timed now.
        """
        if self._standings.is_final(evaluation) and self._standings.measured.own_sessions(evaluation):
            return False
        return await self._in_turn([evaluation], JUDGING_SESSIONS[0])

    async def time_front(self) -> None:
        """Time the files of the front further, in turn, until all of their graphs are well known."""
        until = self._clock.elapsed() + min(FRONT_SHARE * self._clock.limit_s, self._measuring_s())
        failed: set[str] = set()
        while few := [e for e in self._little_known() if e.graph not in failed]:
            for evaluation in few:
                if self._clock.elapsed() >= until:
                    return
                if not await self._timed(evaluation, self._pipeline.session_s):
                    failed.add(evaluation.graph)

    def _may_be_over(self, evaluation: Evaluation) -> bool:
        """Whether it is open that a file keeps the budget, and further sessions may tell."""
        verdict = self._standings.budget.verdict(evaluation.latency)
        return verdict is not None and not verdict.met and not self._pipeline.timed.well_known(evaluation.graph)

    def _wanted(self, families: Sequence[Family]) -> list[Evaluation]:
        """A file of each graph that has too few sessions: of what these families and the others may be recommended for
        since they were chosen, of the front in all.
        """
        latest = {e.id for family in families for e in family.latest.evaluations}
        own = [j.evaluation for j in self._in_order() if j.evaluation.id in latest and not j.is_over]
        judged = (*own[:OWN_BESIDE], *self._hopeful()[:JUDGED])
        few = [e for e in judged if self._missing(e, JUDGING_SESSIONS[0])]
        front = self._little_known() if self._measuring_s() > 0 else ()
        return list({e.graph: e for e in (*few, *front)}.values())

    def _little_known(self) -> list[Evaluation]:
        """The files of the front that are clearly faster than the reference and whose graphs are not well known, one of
        each graph.
        """
        faster = [e for e in self._standings.front() if e.latency.ratio < KNOWN_BELOW]
        few = [e for e in faster[:MEASURED_AGAIN] if not self._pipeline.timed.well_known(e.graph)]
        return list({e.graph: e for e in few}.values())

    def _unsure(self, judged: Sequence[Evaluation]) -> list[Evaluation]:
        """Of files that were judged, the best first, those before the first that can be recommended whose latency is
        undecided.
        """
        found = {j.evaluation.id: j for j in self._standings.judgements()}
        better = list(takewhile(lambda e: not found[e.id].recommendable_but_for_classes, judged))
        return [e for e in better if (latency := found[e.id].latency) is not None and not latency.decided]

    def _hopeful(self, judged: Collection[str] = ()) -> list[Evaluation]:
        """What can be recommended, or may be once it is timed for it, the best first. judged: by id what was."""
        hopeful = [j for j in self._in_order() if j.hopeful and (j.recommendable or j.evaluation.id not in judged)]
        return [j.evaluation for j in hopeful]

    def _in_order(self) -> list[Judgement]:
        """The candidates, the best first."""
        order = most_accurate_first if self._standings.budget.bounded else fastest_first
        return order(self._standings.judgements())

    async def _in_turn(self, finalists: Sequence[Evaluation], sessions: int) -> bool:
        """So many sessions of the graph of each since the finalists were chosen, and as many of the file itself as show
        that it is like others of its graph; one that fails is left out. Whether there was any.
        """
        left, found = list(finalists), False
        for _ in range(sessions):
            left = [e for e in left if self._missing(e, sessions) or self._is_doubtful(e)]
            patient_s = self._patient_s(left, sessions)
            left = [e for e in left if await self._timed(e, patient_s)]
            found = found or bool(left)
        return found

    def _patient_s(self, files: Sequence[Evaluation], sessions: int) -> float:
        """Seconds of each session of these files: longer where it is to find quiet moments, and may."""
        if not files or self._pipeline.timed.in_vain():
            return self._pipeline.session_s
        count = sum(max(1, self._missing(e, sessions)) for e in files)
        return self._time.patient_s(count, self._measuring_s())

    def _missing(self, evaluation: Evaluation, sessions: int) -> int:
        """How many a file has too few of, since the finalists were chosen, with those of its graph. Those that
        found no quiet moments are made up for, as often as it may happen beside a training, as long as there
        are any.
        """
        timed = self._standings.measured.since_chosen(evaluation)
        quiet = sum(not session.busy for session in timed)
        made_up_for = 0 if self._pipeline.timed.in_vain() else IN_VAIN_BESIDE
        return max(0, min(sessions - quiet, sessions + made_up_for - len(timed)))

    def _is_doubtful(self, evaluation: Evaluation) -> bool:
        """Whether a file was never timed itself, or once and otherwise than its graph."""
        measured = self._standings.measured
        own, latency = measured.own_sessions(evaluation), measured.current(evaluation).latency
        if len(own) != 1:
            return not own
        return not latency.ratio_next_low <= math.exp(own[0].log_ratio) <= latency.ratio_next_high

    def _measuring_s(self) -> float:
        """Seconds that measuring may still take."""
        return self._pipeline.timed.left_s(self._clock.limit_s)

    async def _timed(self, evaluation: Evaluation, seconds: float) -> bool:
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
        self._history.enter(Timed(evaluation.graph, session))
        return True

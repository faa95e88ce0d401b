"""What there is time for: how much to keep for finishing, and what a training may take before that."""

from collections.abc import Sequence

from autocompress.candidate.score import ON_DEVICE
from autocompress.evaluation import Evaluation
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import OVERRUN, Durations
from autocompress.explore.pipeline.scoring_speed import ScoringSpeed
from autocompress.explore.pipeline.timed_graphs import JUDGING_SESSIONS, session_s
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.schedule import rungs
from autocompress.explore.standings.standings import Standings

MAY_TAKE = 1.2  # times what a training or a family should take
LAST_LENGTHS_KEPT = 2  # times the last rung's length, kept for each finalist
LEAST_MORE = 0.3  # of what a finalist has trained: to train on for less is not worth warming up again
EXAMPLES_S, EXAMPLES_SHARE = 5.0, 0.01  # for which examples changed, and of the whole time at most
CLOSING_S = 2.0  # writing the front and the report

# What finishing does, and the time that is kept for it.
FINALISTS = 3  # families trained in full without a budget; the front has several
CONTENDERS = 2  # and under one: the better of them, trained equally long, has the time
MOST_LAST_LENGTHS = 4  # a finalist trains at most this many times the last rung's length, if time is left
FULL_EPOCHS = 60  # of the training split, or as many, if that is more
MEASURED_AGAIN = 12  # files of the front, at most
JUDGED = 3  # files that may be recommended, timed in sessions of their own
PATIENCE = 4  # times the usual length of a session, for a finalist beside which nothing was quiet
PATIENT_SHARE = 0.08  # of the whole time, that all of them may take
RUN_THERE, RUN_THERE_S = 3, 2.0  # a file on a device: as often, here and there together, and seconds beside
MEASURING_TAKES = 1.3  # times what a session is timed for: both files are opened for it


def is_worth_more(train_s: float, more_s: float) -> bool:
    """Whether a finalist that has trained for ``train_s`` seconds is trained on for ``more_s``."""
    return more_s > 0 and more_s >= LEAST_MORE * train_s


class TimeBudget:
    """Answers from what is known now; seconds. lengths: of the rungs, at first. batch: examples of one call.
    concurrency: calls that run at once. speed: of scoring. on_device: whether files are run on a device elsewhere too.
    explaining_s: kept for trainings that only explain, until they are done.
    """

    def __init__(
        self,
        clock: Clock,
        durations: Durations,
        standings: Standings,
        lengths: Sequence[rungs.Length],
        *,
        batch: int,
        concurrency: int,
        speed: ScoringSpeed,
        policy: SearchPolicy = SearchPolicy(),
        on_device: bool = False,
        explaining_s: float = 0.0,
    ) -> None:
        self.explaining_s = explaining_s
        self._on_device = on_device
        self.clock = clock
        self.durations = durations
        self._lengths = tuple(lengths)
        self._standings = standings
        self._batch = batch
        self._concurrency = concurrency
        self._speed = speed
        self._policy = policy

    @property
    def lengths(self) -> tuple[rungs.Length, ...]:
        """Of the rungs."""
        return self._lengths

    @property
    def full_examples(self) -> int:
        """As many as a finalist is trained on at most: in full."""
        epochs = FULL_EPOCHS * self._standings.opening.prepared.train_examples
        return max(MOST_LAST_LENGTHS * self._lengths[-1].examples, epochs)

    def lengthen(self, factor: float) -> None:
        """From now on all rungs are so many times as long."""
        self._lengths = tuple(length.times(factor) for length in self._lengths)

    def spare_s(self) -> float:
        """Left before finishing has to begin."""
        return self.clock.left() - self.reserve_s()

    def training_s(self) -> float:
        """The most a training may take now."""
        return max(1.0, self.spare_s() - self.durations.overhead_s())

    def affords(self, training_s: float, under_way: int = 0) -> bool:
        """Whether there is time for a training of that length and what is around it. under_way: other families."""
        return self._beside(under_way) * (MAY_TAKE * training_s + self.durations.overhead_s()) < self.spare_s()

    def affords_family(self, under_way: int = 0) -> bool:
        """Whether there is time for one more family. under_way: others."""
        return self._beside(under_way) * MAY_TAKE * self.durations.family_s() < self.spare_s()

    def _beside(self, under_way: int) -> float:
        """Times as long as alone, for a family beside so many others that share the workers."""
        return max(1.0, (1 + under_way) / self._concurrency)

    def reserve_s(self) -> float:
        """To be kept for finishing: the finalists at twice the last rung's length, where that is worth training on for,
        and closing.

        While nothing meets the budget, finding something that does comes before training it in full.
        """
        standings, policy = self._standings, self._policy
        bounded = standings.steering.bounded
        if bounded and not any(standing.within for standing in map(standings.standing, standings.contending())):
            return self.closing_s()
        finalists = standings.finalists(CONTENDERS if bounded else FINALISTS)
        full, overhead_s = LAST_LENGTHS_KEPT * self.lengths[-1].seconds, self.durations.overhead_s()
        trained = [family.train_s for family in finalists if is_worth_more(family.train_s, full - family.train_s)]
        each = [full - train_s + overhead_s for train_s in trained]
        training = sum(each) if bounded else max(sum(each) / self._concurrency, *each, 0)
        most = policy.most_finishing if bounded else policy.most_for_front
        kept = min(training, most * self.clock.limit_s)
        usable = any(is_worth_more(train_s, kept - overhead_s) for train_s in trained)
        return (kept if usable else 0.0) + self.closing_s()

    def closing_s(self) -> float:
        """For explaining, judging finalists, timing the front once more, testing and writing. On a quiet machine the
        front is timed while finalists are trained, and of their sessions one each is left for after it: of the files
        that come of it.
        """
        front = self._standings.front()
        busy = 2 * sum(not e.latency.quiet for e in front) > len(front)
        beside = bool(self._standings.finalists(1)) and not busy
        judged = self.judging_sessions()
        judging_s = self._patiently_s(judged) if busy else self._sessions_s(min(judged, JUDGED) if beside else judged)
        front_s = 0.0 if beside else self._front_s()
        scoring_s = self.on_device_s() + self.tested_s() + self.examples_s()
        return self.explaining_s + judging_s + front_s + scoring_s + CLOSING_S

    def examples_s(self) -> float:
        """For what the chosen file does worse on, example by example."""
        return min(EXAMPLES_S, EXAMPLES_SHARE * self.clock.limit_s)

    def judging_sessions(self) -> int:
        """The fewest that finalists are judged by."""
        return min(JUDGED, self._standings.files) * JUDGING_SESSIONS[0]

    def judging_s(self) -> float:
        """What these take at their usual length."""
        return self._sessions_s(self.judging_sessions())

    def patient_s(self, sessions: int, measuring_s: float) -> float:
        """What each of so many sessions of finalists may take to find quiet moments: longer than others while there is
        time. measuring_s: that measuring may still take.
        """
        usual_s, spare_s = self._sessions_s(sessions), self.clock.left() - self._front_s() - self.tested_s() - CLOSING_S
        patiently_s = min(self._patiently_s(sessions), max(usual_s, min(spare_s, measuring_s)))
        return session_s(self.clock.limit_s) * patiently_s / usual_s

    def can_measure(self) -> bool:
        """Whether there is time for more than testing and writing."""
        return self.clock.left() >= CLOSING_S + self.on_device_s() + self.tested_s()

    def _front_s(self) -> float:
        """For timing the files of the front once more."""
        return self._sessions_s(min(MEASURED_AGAIN, len(self._standings.front())))

    def _patiently_s(self, count: int) -> float:
        """For so many sessions that wait for quiet moments."""
        usual_s = self._sessions_s(count)
        return max(usual_s, min(PATIENCE * usual_s, PATIENT_SHARE * self.clock.limit_s))

    def _sessions_s(self, count: int) -> float:
        return count * session_s(self.clock.limit_s) * MEASURING_TAKES

    def tested_s(self) -> float:
        """For the test scores of the front and the reference."""
        own, front = self._standings.opening.reference, self._standings.front()
        slowest = sorted((e.latency.p50 for e in front if e.id != own.id), reverse=True)
        return self._tested_s(own.latency.p50 + sum(slowest[:MEASURED_AGAIN]))

    def on_device_s(self) -> float:
        """For running one file on the device elsewhere, and here: 0 where there is none."""
        calls_s = self._ran_s(RUN_THERE * ON_DEVICE, self._standings.opening.reference.latency.p50)
        return RUN_THERE_S + calls_s if self._on_device else 0.0

    def can_run_on_device(self) -> bool:
        """Whether there is time for one more, before testing and writing."""
        return self._on_device and self.clock.left() >= self.on_device_s() + self.tested_s() + CLOSING_S

    def can_test(self, file: Evaluation) -> bool:
        """Whether there is time to score one more file on the test split, a little after the end as well."""
        return self.clock.elapsed() + self._tested_s(file.latency.p50) <= (1 + OVERRUN) * self.clock.limit_s

    def can_compare_examples(self) -> bool:
        """Whether there is time to look at each, before writing."""
        return self.clock.left() >= self.examples_s() + CLOSING_S / 2

    def _tested_s(self, call_ms: float) -> float:
        """For running the test split through files that take so long a call together."""
        return self._speed.share() * self._ran_s(self._standings.opening.prepared.test_examples, call_ms)

    def scored_s(self) -> float:
        """For scoring every file of a family, each as slow as the reference, one example after another."""
        opening = self._standings.opening
        files = 1 + sum(len(a.variants) for a in opening.applicable)
        return self._ran_s(opening.prepared.val_examples, files * opening.reference.latency.p50)

    def _ran_s(self, examples: int, call_ms: float) -> float:
        """For running so many examples through files that take so long together."""
        return examples / self._batch * call_ms / 1e3

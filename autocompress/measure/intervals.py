"""What the sessions of one graph say together: their spread, and intervals. Pure.

Values are natural logarithms, so that spreads are shares. An interval over the calls of one session says nothing about
the next one; the spread between sessions does. It is pooled over all graphs of a run, since few of them have many.

The reference is a covariate of what a file takes, as in the analysis of covariance (Cochran, Biometrics 13, 1957): how
much slower than its fastest of those minutes it was in a session, beside how much it is in others, tells how much
slower the file was. A ratio takes for granted that it was as much, which holds for files of the reference's size and
for a clock that changes; neighbours on the machine slow a file of a quarter of its size by a quarter of that, or less.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from scipy.special import fdtri, stdtrit

from autocompress.comparison import Relation, TimingSession, TimingSessions
from autocompress.latency import Latency
from autocompress.machine.quiet import NEAR_FASTEST, USUALLY_SLOWED
from autocompress.measure.quiet import ReferenceSpeed

ASSUMED_SD = 0.02  # of a session's logarithm, until sessions say otherwise
ASSUMED_DF = 8  # as if known from so many degrees of freedom
CONFIDENCE = 0.95  # two-sided: each end holds with 97.5 %
LOOK_CONFIDENCE = 0.975  # of each of two looks, so that both together keep 95 %
FEWEST_EACH, FAR = 2, 3.0  # sessions of a file that stands alone and of the others; standard deviations between them
CLEARLY_WIDER = 0.99  # of an F test: a graph's own spread against the others'
LEAST_SLOPE = 0.5  # of a file's logarithm on the reference's, where both are quiet: half of what slows it, at least


@dataclass(frozen=True)
class Pooled:
    """Squared distances of sessions from the means of their own graphs, and the degrees of freedom."""

    squares: float = 0.0
    df: int = 0

    @classmethod
    def of(cls, values: Sequence[float]) -> "Pooled":
        """Of the sessions of one graph."""
        if len(values) < 2:
            return cls()
        mean = fmean(values)
        return cls(sum((value - mean) ** 2 for value in values), len(values) - 1)

    def plus(self, other: "Pooled") -> "Pooled":
        return Pooled(self.squares + other.squares, self.df + other.df)

    def less(self, other: "Pooled") -> "Pooled":
        return Pooled(max(0.0, self.squares - other.squares), max(0, self.df - other.df))


@dataclass(frozen=True)
class RunTiming:
    """What the sessions of all graphs of a run say together. ratio, statistic: how sessions spread, of their ratios and
    of the profile's percentile. reference_ms: of a call of the reference, in the mean of the quiet sessions; infinite
    where there are none. slowed: how many times its fastest of those minutes it took, in the mean of them; 0 where that
    is not known, so that sessions count as they were. speed: its fastest, by the time.
    """

    ratio: Pooled = Pooled()
    statistic: Pooled = Pooled()
    reference_ms: float = math.inf
    slowed: float = 0.0
    speed: ReferenceSpeed = ReferenceSpeed()

    @classmethod
    def of(cls, pools: Iterable["Pools"], speed: ReferenceSpeed = ReferenceSpeed()) -> "RunTiming":
        """pools: of each graph."""
        groups = [group for pool in pools for group in (pool.together, *pool.alone.values())]
        every = counted([session for group in groups for session in group])
        if not every:
            return cls(speed=speed)
        reference_ms = math.exp(fmean([math.log(session.reference) for session in every]))
        slowed = math.exp(fmean([_log_slowed(session, speed) for session in every]))
        if every[0].busy:  # and so all
            slowed = min(slowed, USUALLY_SLOWED)
        found = cls(reference_ms=reference_ms, slowed=slowed, speed=speed)
        for sessions in map(counted, groups):
            ratio, statistic = Pooled.of(_log_ratios(sessions, found)), Pooled.of(_log_statistics(sessions))
            found = replace(found, ratio=found.ratio.plus(ratio), statistic=found.statistic.plus(statistic))
        return found


@dataclass(frozen=True)
class Spread:
    """The standard deviation of one session's logarithm around the mean of many, and its degrees of freedom."""

    sd: float
    df: float

    def reach(self, confidence: float) -> float:
        """How far around the mean, by Student's t, a two-sided interval of one session goes."""
        return float(stdtrit(self.df, (1 + confidence) / 2)) * self.sd


@dataclass(frozen=True)
class Intervals:
    """Of the mean of several sessions, and where the next one will lie."""

    mean: float
    low: float
    high: float
    next_low: float
    next_high: float


def spread_of(values: Sequence[float], pooled: Pooled = Pooled(), confidence: float = CONFIDENCE) -> Spread:
    """The spread of a graph's sessions. pooled: of the graphs of a run, this one among them or not.

    All that is known taken together, what is assumed too; or the graph's own alone, where it is clearly wider than that
    of the others. While there are no others, where it reaches farther: nothing but an assumption stands against it.
    """
    own = Pooled.of(values)
    others = pooled.less(own)
    known = Pooled(ASSUMED_DF * ASSUMED_SD**2 + others.squares, ASSUMED_DF + others.df)
    both = known.plus(own)
    together = Spread(math.sqrt(both.squares / both.df), both.df)
    if not own.df:
        return together
    alone = Spread(math.sqrt(own.squares / own.df), own.df)
    if not others.df:
        return max(together, alone, key=lambda spread: spread.reach(confidence))
    wider = alone.sd**2 > fdtri(own.df, known.df, CLEARLY_WIDER) * known.squares / known.df
    return alone if wider else together


def intervals(values: Sequence[float], pooled: Pooled = Pooled(), confidence: float = CONFIDENCE) -> Intervals:
    """Two-sided, of the logarithms of one graph's sessions."""
    mean, reach = fmean(values), spread_of(values, pooled, confidence).reach(confidence)
    half, further = reach / math.sqrt(len(values)), reach * math.sqrt(1 + 1 / len(values))
    return Intervals(mean, mean - half, mean + half, mean - further, mean + further)


def counted(sessions: Sequence[TimingSession]) -> list[TimingSession]:
    """The sessions that count: the quiet ones, as long as there are any; else those beside which the reference was
    nearly as fast as in any of them. What slows it by a lot slows some files by more and others by less.
    """
    quiet = [session for session in sessions if not session.busy]
    nearly = NEAR_FASTEST * min((session.reference for session in sessions), default=0.0)
    return quiet or [session for session in sessions if session.reference <= nearly]


def latency_of(
    sessions: Sequence[TimingSession], run: RunTiming = RunTiming(), confidence: float = CONFIDENCE
) -> Latency:
    """What the sessions of one graph say; at least one. run: that they are of. confidence: of the intervals."""
    count = counted(sessions)
    ratio = intervals(_log_ratios(count, run), run.ratio, confidence)
    statistic = intervals(_log_statistics(count), run.statistic, confidence)
    tail = fmean([math.log(session.p90 / session.statistic) for session in count])
    took = [log_ratio + math.log(s.reference) for log_ratio, s in zip(_log_ratios(count), count, strict=True)]
    return Latency(
        p50=math.exp(fmean(took)),
        p90=math.exp(statistic.mean + tail),
        ratio=math.exp(ratio.mean),
        ratio_low=math.exp(ratio.low),
        ratio_high=math.exp(ratio.high),
        ratio_next_low=math.exp(ratio.next_low),
        ratio_next_high=math.exp(ratio.next_high),
        ratio_of_all=math.exp(fmean([session.log_ratio_of_all for session in sessions])),
        statistic=math.exp(statistic.mean),
        low=math.exp(statistic.low),
        high=math.exp(statistic.high),
        next_low=math.exp(statistic.next_low),
        next_high=math.exp(statistic.next_high),
        sessions=tuple(sessions),
    )


@dataclass(frozen=True)
class Pools:
    """The sessions of one graph as they belong together. together: of the files that are alike. alone: of each file
    that stands alone, by the digest of its content.
    """

    together: TimingSessions
    alone: Mapping[str, TimingSessions] = field(default_factory=dict)

    @classmethod
    def of(cls, sessions: TimingSessions) -> "Pools":
        """A file stands alone where its latency is another than the others': values of weights can matter after all,
        such as denormal numbers, or zeros where they pay. It has two sessions at least, and so have the others; all of
        its own lie farther from the mean of the others than three standard deviations of one more, by how sessions of
        one file spread. The farthest leaves first, so that it takes no other with it.
        """
        pool, alone = cls(sessions), dict[str, TimingSessions]()
        while far := _far_from_others(pool.together):
            alone[far] = tuple(s for s in pool.together if s.file == far)
            pool = cls(tuple(s for s in pool.together if s.file != far))
        return cls(pool.together, alone)

    def of_file(self, digest: str) -> TimingSessions:
        """Those that say what a file takes."""
        return self.alone.get(digest, self.together)


def _far_from_others(sessions: TimingSessions) -> str | None:
    """The file that lies farthest from the others, where that is far; of two alike the one that was timed later."""
    ratios: dict[str, list[float]] = {}
    for session in counted(sessions):
        ratios.setdefault(session.file, []).append(session.log_ratio)
    known = Pooled(ASSUMED_DF * ASSUMED_SD**2, ASSUMED_DF)
    for own in ratios.values():
        known = known.plus(Pooled.of(own))
    sd = math.sqrt(known.squares / known.df)
    found: list[tuple[float, int, str]] = []
    for file, own in ratios.items():
        others = [value for name, values in ratios.items() if name != file for value in values]
        if min(len(own), len(others)) < FEWEST_EACH:
            continue
        middle, reach = fmean(others), FAR * sd * math.sqrt(1 + 1 / len(others))
        if all(abs(value - middle) > reach for value in own):
            found.append((round(abs(fmean(own) - middle), 9), len(found), file))
    return max(found)[2] if found else None


def relation(latency: Latency, within: float) -> Relation:
    """How a file's time stands to the reference's. within: what counts as the same, as a share."""
    if 1 - within <= latency.ratio_low and latency.ratio_high <= 1 + within:
        return "same"
    if latency.ratio_high < 1:
        return "faster"
    return "slower" if latency.ratio_low > 1 else "undecided"


def _log_ratios(sessions: Sequence[TimingSession], run: RunTiming = RunTiming()) -> list[float]:
    return [_log_ratio(session, run) for session in sessions]


def _log_ratio(session: TimingSession, run: RunTiming) -> float:
    """As it were had the reference been as slow as it is in the mean of the run, as far as quiet sessions can be apart:
    what slows it more slows all files alike.
    """
    if not run.slowed:
        return session.log_ratio
    slope = min(1.0, max(LEAST_SLOPE, math.exp(session.log_ratio)))
    slowed = min(_log_slowed(session, run.speed), math.log(NEAR_FASTEST))
    return session.log_ratio + (1 - slope) * (slowed - math.log(run.slowed))


def _log_slowed(session: TimingSession, speed: ReferenceSpeed) -> float:
    """How much slower than its fastest of the minutes around a session the reference was in it. Not at all where every
    moment counts, nor on a device that does nothing else: its clock slows all files alike.
    """
    if math.isinf(session.fastest) or session.device:
        return 0.0
    return math.log(session.reference / min(session.fastest, speed.near(session.at_s, session.device)))


def _log_statistics(sessions: Sequence[TimingSession]) -> list[float]:
    return [math.log(session.statistic_of_all if session.busy else session.statistic) for session in sessions]

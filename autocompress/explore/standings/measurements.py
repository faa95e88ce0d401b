"""What was measured of graphs and files, and what files take by it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autocompress.comparison import TimingSession, TimingSessions
from autocompress.evaluation import Evaluation
from autocompress.explore.history.facts import Compared, Evaluated, Fact, ScoredOnTest, Timed
from autocompress.explore.opening.opening import Opening
from autocompress.latency import Latency, beside_itself
from autocompress.measure import Spreads, counted, latency_of, requalified, standing_alone


@dataclass(frozen=True)
class RunTiming:
    """How sessions spread in a run, and milliseconds of a call of the reference beside all that was timed."""

    spreads: Spreads
    reference_ms: float


@dataclass(frozen=True)
class Measurements:
    """A value: each fact makes the next one. reference: the graph of the reference. graphs: the sessions of each graph,
    over all files that have it. finals: those begun after a file had been chosen, by its id. losses: of score against
    the reference, paired, with their standard errors, by a file's id. tests: scores on the test split, by the digest of
    the file.
    """

    reference: str
    graphs: Mapping[str, TimingSessions]
    finals: Mapping[str, TimingSessions] = field(default_factory=dict)
    losses: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    tests: Mapping[str, float] = field(default_factory=dict)
    _latencies: dict[TimingSessions, Latency] = field(default_factory=dict, compare=False)
    _alone: dict[TimingSessions, frozenset[str]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, opening: Opening) -> "Measurements":
        measured = cls(opening.reference.graph, {})
        for evaluation in (opening.reference, *opening.reference_family.evaluations):
            measured = measured._with(evaluation.graph, evaluation.latency.sessions)
        return measured

    def after(self, fact: Fact) -> "Measurements":
        match fact:
            case Compared(losses):
                return replace(self, losses={**self.losses, **losses})
            case ScoredOnTest(scores):
                return replace(self, tests={**self.tests, **scores})
        measured = self
        for graph, sessions in _sessions_in(fact):
            measured = measured._with(graph, sessions)
        if isinstance(fact, Timed) and fact.finalist is not None:
            sessions = (*self.finals.get(fact.finalist, ()), fact.session)
            measured = replace(measured, finals={**self.finals, fact.finalist: sessions})
        return measured

    def _with(self, graph: str, sessions: Sequence[TimingSession]) -> "Measurements":
        """With further sessions of a graph. Where they show that the reference can be faster, those before them may
        count otherwise.
        """
        known = self.graphs.get(graph, ())
        new = tuple(session for session in sessions if session not in known)
        if not new:
            return self
        new = requalified(new, (session for of_one in self.graphs.values() for session in of_one))
        graphs = {name: requalified(of_one, new) for name, of_one in self.graphs.items()}
        same = all(graphs[name] is self.graphs[name] for name in graphs)
        latencies, alone = (self._latencies, self._alone) if same else ({}, {})
        graphs[graph] = (*graphs.get(graph, ()), *new)
        return replace(self, graphs=graphs, _latencies=latencies, _alone=alone)

    def timed_anew(self, before: "Measurements") -> set[str]:
        """The graphs that were known ``before`` and have further sessions now."""
        if self.graphs is before.graphs:
            return set()
        return {graph for graph, sessions in before.graphs.items() if self.graphs[graph] is not sessions}

    def current(self, evaluation: Evaluation) -> Evaluation:
        """A file with the latency of its graph, by all sessions so far."""
        return self._of(evaluation, self._latency(self._sessions(evaluation)))

    def judged(self, evaluation: Evaluation, run: "RunTiming") -> Evaluation:
        """A file as it is reported: of a finalist its own last sessions alone, of others all of the graph. Milliseconds
        are the ratio times the reference's. run: of all graphs.
        """
        sessions = self.finals.get(evaluation.id) or self._sessions(evaluation)
        found = self._of(evaluation, latency_of(sessions, run.spreads) if sessions else None)
        latency = found.latency
        p50 = latency.ratio * run.reference_ms
        return replace(found, latency=replace(latency, p50=p50, p90=p50 * latency.p90 / latency.p50))

    def stands_alone(self, evaluation: Evaluation) -> bool:
        """Whether a file's latency is another than that of the other files of its graph."""
        return evaluation.digest in self._standing_alone(self.graphs.get(evaluation.graph, ()))

    def _sessions(self, evaluation: Evaluation) -> TimingSessions:
        """Those that say what a file takes: of all files of its graph, but for files that stand alone."""
        sessions = self.graphs.get(evaluation.graph, ())
        alone = self._standing_alone(sessions)
        if not alone:
            return sessions
        if evaluation.digest in alone:
            return tuple(session for session in sessions if session.file == evaluation.digest)
        return tuple(session for session in sessions if session.file not in alone) or sessions

    def _standing_alone(self, sessions: TimingSessions) -> frozenset[str]:
        if sessions not in self._alone:
            self._alone[sessions] = standing_alone(sessions)
        return self._alone[sessions]

    def run(self) -> "RunTiming":
        """What the sessions of all graphs say together."""
        every = counted([session for sessions in self.graphs.values() for session in sessions])
        log_ms = [math.log(session.reference) for session in every]
        return RunTiming(Spreads.of(self.graphs.values()), math.exp(sum(log_ms) / len(log_ms)))

    def _of(self, evaluation: Evaluation, latency: Latency | None) -> Evaluation:
        if latency is not None:
            evaluation = replace(evaluation, latency=latency)
        if evaluation.graph == self.reference:
            evaluation = replace(evaluation, latency=beside_itself(evaluation.latency))
        if evaluation.digest in self.tests:
            evaluation = replace(evaluation, score=replace(evaluation.score, test=self.tests[evaluation.digest]))
        return evaluation

    def _latency(self, sessions: TimingSessions) -> Latency | None:
        if not sessions:
            return None
        if sessions not in self._latencies:
            self._latencies[sessions] = latency_of(sessions)
        return self._latencies[sessions]


def _sessions_in(fact: Fact) -> Iterator[tuple[str, Sequence[TimingSession]]]:
    match fact:
        case Evaluated(_, outcome):
            for evaluation in outcome.evaluations:
                yield evaluation.graph, evaluation.latency.sessions
        case Timed(graph, session):
            yield graph, (session,)

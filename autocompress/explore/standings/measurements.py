"""What was measured of graphs and files, and what files take by it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autocompress.changed_examples import ChangedExamples
from autocompress.comparison import TimingSession, TimingSessions
from autocompress.evaluation import Evaluation, OnDevice
from autocompress.explore.history.facts import (
    Chosen,
    Compared,
    ComparedByClass,
    ComparedByExample,
    ComparedWith,
    Evaluated,
    Fact,
    Gated,
    Profiled,
    RanOnDevice,
    ScoredOnTest,
    Timed,
)
from autocompress.explore.opening.opening import EarlierOpening, Opening
from autocompress.explore.pipeline.timed_graphs import JUDGING_SESSIONS
from autocompress.group_losses import GroupLosses
from autocompress.latency import Latency, beside_itself
from autocompress.measure import Pools, ReferenceSpeed, RunTiming, latency_of, requalified
from autocompress.operator_kinds import OperatorKinds


@dataclass(frozen=True)
class Measurements:
    """A value: each fact makes the next one. reference: the graph of the reference. graphs: the sessions of each graph,
    over all files that have it. finals: those since the finalists were chosen. losses: of score against the reference,
    paired, with their standard errors, by a file's id. by_class: the same in each class, and by_example: where a file
    does worse, by id. beside: against another file, by the ids of that one and the file. tests: scores on the
    test split, and operators: where a call spends its time, by the digest of the file. on_device: how files did on the
    device elsewhere, by id. speed: of the reference, by all sessions. chosen: whether finalists were.
    """

    reference: str
    graphs: Mapping[str, TimingSessions]
    finals: Mapping[str, TimingSessions] = field(default_factory=dict)
    losses: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    by_class: Mapping[str, GroupLosses] = field(default_factory=dict)
    by_example: Mapping[str, ChangedExamples] = field(default_factory=dict)
    beside: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    tests: Mapping[str, float] = field(default_factory=dict)
    on_device: Mapping[str, OnDevice] = field(default_factory=dict)
    operators: Mapping[str, OperatorKinds] = field(default_factory=dict)
    speed: ReferenceSpeed = field(default_factory=ReferenceSpeed)
    chosen: bool = False
    _latencies: dict[TimingSessions, Latency] = field(default_factory=dict, compare=False)
    _pools: dict[TimingSessions, Pools] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, opening: Opening | EarlierOpening) -> "Measurements":
        measured = cls(opening.reference.graph, {})
        for evaluation in (opening.reference, *opening.reference_family.evaluations):
            measured = measured._with(evaluation.graph, evaluation.latency.sessions)
        return measured

    def after(self, fact: Fact) -> "Measurements":
        match fact:
            case Compared(losses):
                return replace(self, losses={**self.losses, **losses})
            case ComparedByClass(of_classes):
                return replace(self, by_class={**self.by_class, **of_classes})
            case ComparedByExample(of_examples):
                return replace(self, by_example={**self.by_example, **of_examples})
            case ComparedWith(file, losses):
                return replace(self, beside={**self.beside, **{(file, name): pair for name, pair in losses.items()}})
            case ScoredOnTest(scores):
                return replace(self, tests={**self.tests, **scores})
            case RanOnDevice(found):
                losses = {name: one.loss for name, one in found.items() if one.loss is not None}
                return replace(
                    self,
                    on_device={**self.on_device, **found},
                    losses={**self.losses, **losses},
                    by_class={name: of_one for name, of_one in self.by_class.items() if name not in losses},
                    by_example={name: of_one for name, of_one in self.by_example.items() if name not in losses},
                    beside={pair: of for pair, of in self.beside.items() if not losses.keys() & {*pair}},
                )
            case Profiled(kinds):
                return replace(self, operators={**self.operators, **kinds})
            case Chosen():
                return replace(self, finals={}, chosen=True)
            case Gated() if self.chosen:  # a search that had ended goes on
                return replace(self, finals={}, chosen=False)
        measured = self
        for graph, sessions in _sessions_in(fact):
            measured = measured._with(graph, sessions)
        return measured

    def _with(self, graph: str, sessions: Sequence[TimingSession]) -> "Measurements":
        """With further sessions of a graph. Where they show that the reference can be faster, those before them may
        count otherwise.
        """
        known = self.graphs.get(graph, ())
        new = tuple(session for session in sessions if session not in known)
        if not new:
            return self
        speed, graphs, latencies, pools = self.speed.after(new), dict(self.graphs), self._latencies, self._pools
        if self.speed.beaten_by(new):
            graphs = {name: requalified(of_one, speed) for name, of_one in graphs.items()}
            latencies, pools = {}, {}
        graphs[graph] = (*graphs.get(graph, ()), *requalified(new, speed))
        finals = self.finals if not self.chosen else {**self.finals, graph: (*self.finals.get(graph, ()), *new)}
        return replace(self, graphs=graphs, finals=finals, speed=speed, _latencies=latencies, _pools=pools)

    def timed_anew(self, before: "Measurements") -> set[str]:
        """The graphs that were known ``before`` and have further sessions now."""
        if self.graphs is before.graphs:
            return set()
        return {graph for graph, sessions in before.graphs.items() if self.graphs[graph] is not sessions}

    def current(self, evaluation: Evaluation) -> Evaluation:
        """A file with the latency of its graph, by all sessions so far."""
        return self._of(evaluation, self._latency(self._sessions(evaluation)))

    def judged(self, evaluation: Evaluation, run: RunTiming) -> Evaluation:
        """A file as it is reported: by its graph's sessions since the finalists were chosen, where enough, else by all
        of them. Milliseconds are the ratio times the reference's. run: of all graphs.
        """
        sessions = self.final_sessions(evaluation) or self._sessions(evaluation)
        found = self._of(evaluation, latency_of(sessions, run) if sessions else None)
        latency = found.latency
        p50 = latency.ratio * run.reference_ms
        return replace(found, latency=replace(latency, p50=p50, p90=p50 * latency.p90 / latency.p50))

    def final_sessions(self, evaluation: Evaluation) -> TimingSessions:
        """Those that a file is judged by; none while there are too few since the finalists were chosen."""
        sessions = self.since_chosen(evaluation)
        return sessions if len(sessions) >= JUDGING_SESSIONS[0] else ()

    def since_chosen(self, evaluation: Evaluation) -> TimingSessions:
        """Those of a file and the others of its graph that are like it since the finalists were chosen."""
        finals = set(self.finals.get(evaluation.graph, ()))
        return tuple(session for session in self._sessions(evaluation) if session in finals)

    def scored_there(self, evaluation: Evaluation) -> bool:
        """Whether a file's score is that of the device elsewhere."""
        there = self.on_device.get(evaluation.id)
        return there is not None and there.score is not None

    def own_sessions(self, evaluation: Evaluation) -> TimingSessions:
        """Those in which this very file was timed, and not another of its graph."""
        return tuple(s for s in self.graphs.get(evaluation.graph, ()) if s.file == evaluation.digest)

    def stands_alone(self, evaluation: Evaluation) -> bool:
        """Whether a file's latency is another than that of the other files of its graph."""
        return evaluation.digest in self._pools_of(self.graphs.get(evaluation.graph, ())).alone

    def run(self) -> RunTiming:
        """What the sessions of all graphs say together."""
        return RunTiming.of(map(self._pools_of, self.graphs.values()), self.speed)

    def _sessions(self, evaluation: Evaluation) -> TimingSessions:
        return self._pools_of(self.graphs.get(evaluation.graph, ())).of_file(evaluation.digest)

    def _pools_of(self, sessions: TimingSessions) -> Pools:
        if sessions not in self._pools:
            self._pools[sessions] = Pools.of(sessions)
        return self._pools[sessions]

    def _of(self, evaluation: Evaluation, latency: Latency | None) -> Evaluation:
        if latency is not None:
            evaluation = replace(evaluation, latency=latency)
        if evaluation.graph == self.reference and not self.stands_alone(evaluation):
            evaluation = replace(evaluation, latency=beside_itself(evaluation.latency))
        if evaluation.digest in self.tests:
            evaluation = replace(evaluation, score=replace(evaluation.score, test=self.tests[evaluation.digest]))
        there = self.on_device.get(evaluation.id)
        if there is not None and there.score is not None:  # what was told here does not hold there
            score = replace(there.score, test=evaluation.score.test)
            evaluation = replace(evaluation, score=score, outputs=there.outputs)
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

"""What a search asks of whoever computes, whichever process that is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate import artifact, pipeline
from autocompress.candidate.bench import Bench, Gate, Request
from autocompress.candidate.evaluate import Evaluation, Latency, Outcome, paired_difference, targets_of
from autocompress.candidate.measure import Effort
from autocompress.candidate.opening import Opening, complete
from autocompress.candidate.preparation import Groundwork, Prepared, prepare
from autocompress.candidate.room import Room
from autocompress.candidate.supervisor import Supervisor
from autocompress.errors import CandidateFailed
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.run.folder import RunFolder
from autocompress.task import Task


@dataclass
class Workshop:
    """Holds the open task. ``open`` comes first, and before it ``prepare`` where structures are to be gated before the
    reference is evaluated; the rest are calls on what was opened.
    """

    load: Callable[[], Task]
    profile: HardwareProfile
    plugins: PluginSet
    folder: RunFolder
    seed: int
    supervisor: Supervisor
    bench: Bench | None = None
    _prepared: Prepared | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.room = Room(self.folder.root, lambda: self.supervisor.phases("wait"))

    def prepare(self, known: Groundwork | None = None, only: Sequence[str] | None = None) -> Groundwork:
        """All that gating takes."""
        with self.room.working():
            with self.supervisor.during("open", "open the task"):
                task = self.load()
            self._prepared = prepare(
                task,
                self.profile,
                self.plugins,
                self.folder,
                seed=self.seed,
                supervisor=self.supervisor,
                room=self.room,
                known=known,
                only=only,
            )
        self.bench = self._prepared.bench
        return self._prepared.groundwork

    def open(self, known: Opening | None = None, only: Sequence[str] | None = None) -> Opening:
        """All that the rest takes; prepares first when that was not done."""
        if self._prepared is None:
            self.prepare(known.groundwork if known else None, only)
        assert self._prepared is not None
        with self.room.working():
            self.bench, opening = complete(self._prepared, known)
        self._prepared = None
        return opening

    def ready(self) -> None:
        """Nothing; but a fresh worker is open when it answers."""

    def gate(self, request: Request, budget: Budget) -> Gate:
        bench = self._opened()
        with self.room.working():
            return pipeline.gate(bench, request.recipe, budget, request.plans)

    def evaluate(self, request: Request) -> Outcome:
        bench = self._opened()
        with self.room.working():
            return pipeline.evaluate(bench, request)

    def remeasure(self, evaluation: Evaluation, effort: Effort) -> Latency:
        return artifact.remeasure(self._opened(), evaluation, effort)

    def test(self, evaluations: Sequence[Evaluation]) -> list[float]:
        bench = self._opened()
        with self.room.working():
            return artifact.test_scores(bench, evaluations)

    def compare(self, best: Evaluation, others: Sequence[Evaluation]) -> list[tuple[float, float]]:
        """For each of ``others``: (score of ``best`` minus its own on the same validation examples, standard error)."""
        bench = self._opened()
        targets = targets_of(bench.val)
        return [paired_difference(bench.task, self._outputs(best), self._outputs(other), targets) for other in others]

    def _outputs(self, evaluation: Evaluation) -> Any:
        stored = self._opened().store.load(evaluation.outputs)
        if stored is None:
            raise CandidateFailed(f"the stored outputs of {evaluation.id} are missing")
        return stored["outputs"]

    def _opened(self) -> Bench:
        if self.bench is None:
            raise RuntimeError("the workshop is not open")
        return self.bench

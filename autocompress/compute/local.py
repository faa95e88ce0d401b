"""What a search asks of whoever computes, whichever process that is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate import artifact, pipeline
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.opening import Opening, complete
from autocompress.candidate.preparation import Preparation, Prepared, prepare
from autocompress.candidate.request import Gate, Request
from autocompress.data import paired_difference, targets_of
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation, Outcome
from autocompress.latency import Latency
from autocompress.measure import Effort, MachineLock
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress.supervisor import Supervisor
from autocompress.task import Task


@dataclass
class LocalComputation:
    """Holds the open task. ``open`` comes first, and before it ``prepare`` where structures are to be gated before the
    reference is evaluated; the rest are calls on what was opened.
    """

    load: Callable[[], Task]
    profile: HardwareProfile
    plugins: PluginSet
    folder: RunFolder
    seed: int
    supervisor: Supervisor
    opened: OpenTask | None = None
    _prepared: Prepared | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.lock = MachineLock(self.folder.root, lambda: self.supervisor.phases("wait"))

    def prepare(self, known: Preparation | None = None, only: Sequence[str] | None = None) -> Preparation:
        """All that gating takes."""
        with self.lock.working():
            with self.supervisor.during("open", "open the task"):
                task = self.load()
            self._prepared = prepare(
                task,
                self.profile,
                self.plugins,
                self.folder,
                seed=self.seed,
                supervisor=self.supervisor,
                lock=self.lock,
                known=known,
                only=only,
            )
        self.opened = self._prepared.opened
        return self._prepared.preparation

    def open(self, known: Opening | None = None, only: Sequence[str] | None = None) -> Opening:
        """All that the rest takes; prepares first when that was not done."""
        if self._prepared is None:
            self.prepare(known.preparation if known else None, only)
        assert self._prepared is not None
        with self.lock.working():
            self.opened, opening = complete(self._prepared, known)
        self._prepared = None
        return opening

    def ready(self) -> None:
        """Nothing; but a fresh worker is open when it answers."""

    def gate(self, request: Request, budget: Budget) -> Gate:
        opened = self._opened()
        with self.lock.working():
            return pipeline.gate(opened, request.recipe, budget, request.plans)

    def evaluate(self, request: Request) -> Outcome:
        opened = self._opened()
        with self.lock.working():
            return pipeline.evaluate(opened, request)

    def remeasure(self, evaluation: Evaluation, effort: Effort) -> Latency:
        return artifact.remeasure(self._opened(), evaluation, effort)

    def test(self, evaluations: Sequence[Evaluation]) -> list[float]:
        opened = self._opened()
        with self.lock.working():
            return artifact.test_scores(opened, evaluations)

    def compare(self, best: Evaluation, others: Sequence[Evaluation]) -> list[tuple[float, float]]:
        """For each of ``others``: (score of ``best`` minus its own on the same validation examples, standard error)."""
        opened = self._opened()
        targets = targets_of(opened.val)
        return [paired_difference(opened.task, self._outputs(best), self._outputs(other), targets) for other in others]

    def _outputs(self, evaluation: Evaluation) -> Any:
        stored = self._opened().store.load(evaluation.outputs)
        if stored is None:
            raise CandidateFailed(f"the stored outputs of {evaluation.id} are missing")
        return stored["outputs"]

    def _opened(self) -> OpenTask:
        if self.opened is None:
            raise RuntimeError("the computation is not open")
        return self.opened

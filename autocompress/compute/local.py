"""One task, to be opened in this process, whichever that is, and the operations on it then."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import nn

from autocompress.candidate import changed, make, preparation, reference, rung, score
from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.inspection import Inspection, scored_on
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.preparation import KnownTask, Preparation
from autocompress.candidate.request import (
    FamilyFiles,
    Made,
    MakeRequest,
    ModelFile,
    NotScored,
    Sample,
    Scored,
    TrainedWeights,
    TrainRequest,
)
from autocompress.candidate.stream import TrainStream
from autocompress.candidate.survey import graph_survey
from autocompress.candidate.taught import TaughtBlocks
from autocompress.candidate.teacher import Teacher
from autocompress.changed_examples import ChangedExamples
from autocompress.evaluation import Chance, OnDevice
from autocompress.group_losses import GroupLosses
from autocompress.measure import MachineLock
from autocompress.plugin.contract import Applicable, Refusal
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.storage.folder import RunFolder
from autocompress.supervisor import Supervisor
from autocompress.task import Task


@dataclass(frozen=True)
class UnopenedTask:
    """A task and all that it takes to open it. score_on: at most so many validation examples."""

    load: Callable[[], Task]
    profile: HardwareProfile
    plugins: PluginSet
    folder: RunFolder
    seed: int
    supervisor: Supervisor
    score_on: int | None = None
    policy: TrainingPolicy = TrainingPolicy()

    def prepare(
        self, known: KnownTask | None = None, only: Sequence[str] | None = None
    ) -> tuple["LocalComputation", Preparation]:
        """Open the task, as far as gating takes."""
        lock = MachineLock(self.folder.root, lambda: self.supervisor.phases("wait"))
        with lock.working():
            with self.supervisor.during("open", "open the task"):
                task = self.load()
            opened, prepared = preparation.prepare(
                task,
                self.profile,
                self.plugins,
                self.folder,
                seed=self.seed,
                supervisor=self.supervisor,
                lock=lock,
                known=known,
                only=only,
                score_on=self.score_on,
                policy=self.policy,
            )
        return LocalComputation(opened), prepared


@dataclass
class LocalComputation:
    """Computes on an open task."""

    opened: OpenTask
    _streams: dict[Arithmetic, TrainStream] = field(default_factory=dict, init=False)
    _trained: tuple[TrainedWeights, nn.Module] | None = field(default=None, init=False)  # the latest, to make files of

    @property
    def supervisor(self) -> Supervisor:
        return self.opened.supervisor

    @property
    def _lock(self) -> MachineLock:
        return self.opened.lock

    def ready(self) -> None:
        """Nothing; but a fresh worker is open when it answers."""

    def other_reference(self, exporter: str) -> ModelFile:
        with self._lock.working():
            return reference.other_reference(self.opened, exporter)

    def score_on(self, count: int) -> int:
        """From now on at most so many validation examples are scored. Returns how many."""
        self.opened = scored_on(self.opened, count)
        return len(self.opened.val)

    def inspect(self, question: str, *args: Any) -> Any:
        """What ``Inspection`` answers to a question of its."""
        with self._lock.working():
            return getattr(self._inspection, question)(*args)

    @cached_property
    def _inspection(self) -> Inspection:
        return Inspection(self.opened)

    def survey(self, only: Sequence[str] | None = None) -> tuple[tuple[Applicable, ...], tuple[Refusal, ...]]:
        opened = self.opened
        with self._lock.working():
            return graph_survey(opened.context, opened.plugins, only, opened.supervisor)

    def time_training(self) -> Arithmetic:
        with self._lock.working():
            return preparation.time_training(self.opened)

    def train(self, request: TrainRequest) -> TrainedWeights:
        self._trained = None  # its memory is for this one
        with self._lock.working():
            model, weights = rung.train_rung(self.opened, request, lambda: self.stream(request.arithmetic))
        self._trained = weights, model
        return weights

    def make(self, request: MakeRequest) -> Made:
        model = None
        if self._trained is not None and isinstance(request, FamilyFiles) and request.weights == self._trained[0]:
            model = self._trained[1]
        with self._lock.working():
            return make.make(self.opened, request, model)

    def score(self, files: Sequence[ModelFile], sample: Sample | None = None) -> tuple[Scored | NotScored, ...]:
        with self._lock.working():
            return score.score_files(self.opened, files, sample)

    def test(self, files: Sequence[ModelFile]) -> list[float]:
        with self._lock.working():
            return score.test_scores(self.opened, files)

    def run_on_device(self, file: ModelFile, reference: str) -> OnDevice:
        with self._lock.working():
            return score.run_on_device(self.opened, file, reference)

    def differences(self, best: str, others: Sequence[str]) -> list[tuple[float, float]]:
        return score.differences(self.opened, best, others)

    def by_class(self, reference: str, own: str) -> GroupLosses | None:
        return score.by_class(self.opened, reference, own)

    def changed_examples(
        self, file: ModelFile, reference: str, own: str, seconds: float, again: int
    ) -> ChangedExamples | None:
        with self._lock.working():
            return changed.changed_examples(self.opened, file, reference, own, seconds, again)

    def chance(self, outputs: str) -> Chance | None:
        return score.chance(self.opened, outputs)

    def stream(self, arithmetic: Arithmetic) -> TrainStream:
        """The training examples with the teacher's outputs, which all trainings share."""
        if arithmetic not in self._streams:
            opened = self.opened
            task, seed = opened.task, opened.context.seed
            kept = TaughtBlocks(opened.store, opened.fingerprint, seed, str(arithmetic))
            teacher = Teacher(task.copy_of_model(), arithmetic, opened.context.layout)
            self._streams[arithmetic] = TrainStream(task, opened.context.train, teacher, seed, kept, opened.policy)
        return self._streams[arithmetic]

"""What a finished search leaves for one on another target: the families whose weights it keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from autocompress.budget import Budget
from autocompress.candidate.request import TrainRequest
from autocompress.errors import UsageError
from autocompress.evaluation import Outcome
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import recorded_facts
from autocompress.explore.opening import identity
from autocompress.explore.progress import Progress
from autocompress.explore.standings.tried import Tried
from autocompress.recipe import digest
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import read_front
from autocompress.storage.record import open_record
from autocompress.storage.store import Store
from autocompress.task_source import TaskSource


@dataclass(frozen=True)
class EarlierRung:
    """A family as it was after one of its trainings. outcome: of that one."""

    family: Family
    outcome: Outcome

    @property
    def request(self) -> TrainRequest:
        """What makes the same model again, training nothing."""
        before = self.family.outcomes[: self.family.outcomes.index(self.outcome) + 1]
        return TrainRequest(
            self.family.recipe,
            rung=self.outcome.rung,
            start=sum(outcome.examples for outcome in before),
            checkpoint=self.outcome.checkpoint,
            plans=self.outcome.plans,
            learned=self.outcome.learned,
            calibration=self.outcome.calibration,
        )


@dataclass(frozen=True)
class EarlierRun:
    """rungs: the best first. budget, seed: of that search. task: where its task came from; None where that is not
    known. fingerprint, parts: of the task.
    """

    rungs: tuple[EarlierRung, ...]
    budget: Budget
    seed: int
    task: TaskSource | None
    fingerprint: str
    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Of which models these are."""
        return digest([(r.family.recipe.to_json(), r.outcome.rung, r.outcome.checkpoint) for r in self.rungs])

    @property
    def keys(self) -> set[str]:
        """Of the store: the weights of all."""
        return {rung.outcome.checkpoint for rung in self.rungs if rung.outcome.checkpoint}


def read_earlier(root: Path) -> EarlierRun:
    """What a run holds. Raises UsageError when it is none, another version wrote it, or none of its weights are
    left.
    """
    document, folder = read_front(root), RunFolder(root)
    if not folder.study.exists():
        raise UsageError(f"{folder.study} is missing, which holds what was tried: search again")
    folder.claim()
    try:
        record = open_record(folder.study)
        try:
            progress = Progress(record)
            identity.refuse_another_version(progress)
            facts = recorded_facts(record)
            prepared = (progress.opening or {}).get("prepared", {})
            task = progress.task
        finally:
            record.close()
    finally:
        folder.release()
    tried = reduce(Tried.after, facts, Tried(0))
    front = {c["id"] for c in document["candidates"] if c["on_front"] or c["id"] == document["recommended"]}
    store = Store(folder.stored)
    kept = filter(None, (_kept(family, front, store) for family in tried.families.values()))
    rungs = sorted(kept, key=lambda rung: _rank(rung, document["recommended"], front))
    if not rungs:
        raise UsageError(f"{root} keeps no weights of the models that it found: search again")
    budget = document["budget"]
    return EarlierRun(
        tuple(rungs),
        Budget(
            budget["latency_ms"], budget["speedup"], budget["max_drop"], max_class_drop=budget.get("max_class_drop")
        ),
        document["seed"],
        task,
        prepared.get("fingerprint", ""),
        prepared.get("parts", {}),
    )


def _kept(family: Family, front: set[str], store: Store) -> EarlierRung | None:
    """Of a family what is on the front, else how it was last; of what has weights of its own, those that are whole."""
    made = [
        outcome
        for outcome in family.outcomes
        if outcome.evaluations and (outcome.checkpoint is None or store.holds(outcome.checkpoint))
    ]
    on_front = [outcome for outcome in made if _is_on(front, outcome)]
    return EarlierRung(family, (on_front or made)[-1]) if made else None


def _rank(rung: EarlierRung, recommended: str | None, front: set[str]) -> tuple[bool, bool, float]:
    """What was recommended comes first, then the front, each by its score."""
    files = rung.outcome.evaluations
    return (
        not any(file.id == recommended for file in files),
        not _is_on(front, rung.outcome),
        -max(file.score.val for file in files),
    )


def _is_on(front: set[str], outcome: Outcome) -> bool:
    return any(evaluation.id in front for evaluation in outcome.evaluations)

"""What a search shows, told to observers too: each thing once, as it becomes known."""

from collections.abc import Callable, Sequence
from types import TracebackType

from autocompress.errors import Interrupted, one_line
from autocompress.explore.history.family import Family
from autocompress.explore.opening.identity import Settings
from autocompress.explore.opening.opening import Opening
from autocompress.explore.space.space import Space
from autocompress.explore.standings.standings import Standings
from autocompress.explore.view import View
from autocompress.measured_file import MeasuredFile
from autocompress.plugin.observation import Observation
from autocompress.plugin.observer import (
    Ending,
    FamilyTrained,
    FileMeasured,
    FrontChanged,
    Observer,
    Phase,
    PhaseBegan,
    SearchFinished,
    SearchStarted,
    TaskOpened,
)
from autocompress.report.document import candidate_documents, file_document
from autocompress.report.explain import Document
from autocompress.storage.front import FRONT, candidate_of, folder_of


class ObservedView:
    """Passes on to ``shown`` what it is given, and tells the observers what is new in it. Used as a context manager: at
    its end they are told how the search ended, and waited for, a minute at most.

    say: told of observers that fail. task: in words. elapsed: seconds into the search.
    """

    def __init__(
        self,
        shown: View,
        observers: Sequence[Observer],
        say: Callable[[str], None],
        task: str,
        settings: Settings,
        elapsed: Callable[[], float],
    ) -> None:
        self._shown = shown
        self._observation = Observation(observers, say)
        self._root = settings.out.resolve()
        self._elapsed = elapsed
        self._trained: dict[str, int] = {}  # outcomes of a family, by its id, that were told of
        self._measured: set[str] = set()
        self._front: list[str] = []
        self._document: Document | None = None
        asked = {"minutes": settings.minutes, "trials": settings.trials, "seed": settings.seed}
        budget, profile = settings.budget, settings.profile.name
        bounds = {n: getattr(budget, n) for n in ("speedup", "max_drop", "max_class_drop")}
        self._observation.tell(
            SearchStarted(
                self._at,
                task,
                self._root,
                profile,
                {"budget_ms": budget.latency_ms, **bounds},
                {**asked, "space": settings.space.name, "no_train": not settings.space.train},
            )
        )

    def __enter__(self) -> "ObservedView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finished(error)
        self._observation.close()

    def phase(self, name: Phase) -> None:
        self._shown.phase(name)
        self._observation.tell(PhaseBegan(self._at, name))

    def opened(self, opening: Opening, space: Space) -> None:
        self._shown.opened(opening, space)
        self._observation.tell(
            TaskOpened(
                self._at,
                opening.name,
                opening.metric,
                opening.scale.maximize,
                MeasuredFile.of(file_document(opening.reference, opening.scale)),
                tuple(dict.fromkeys([*(a.name for a in space.families), *space.graph])),
                {refusal.strategy: refusal.reason for refusal in opening.refused},
            )
        )

    def note(self, text: str) -> None:
        self._shown.note(text)

    def status(self, standings: Standings, left_s: float) -> None:
        self._shown.status(standings, left_s)
        if not self._observation.listened_to:
            return
        for family in standings.families.values():
            self._tell_trainings(family)
        self._tell_files(candidate_documents(standings, standings.judgements()))

    def delivered(self, document: Document) -> None:
        """``front.json`` was written."""
        self._document = document
        self._tell_files(document["candidates"])

    @property
    def _at(self) -> float:
        return round(self._elapsed(), 2)

    def _tell_trainings(self, family: Family) -> None:
        known = self._trained.get(family.id, 0)
        for outcome in family.outcomes[known:]:
            if outcome.examples:
                of, amount = (family.id, family.recipe, outcome.rung), (outcome.epochs, outcome.examples)
                self._observation.tell(FamilyTrained(self._at, *of, *amount, outcome.train_s))
        self._trained[family.id] = len(family.outcomes)

    def _tell_files(self, candidates: Sequence[Document]) -> None:
        """candidates: as ``front.json`` has them."""
        for candidate in candidates:
            if candidate["id"] not in self._measured:
                self._measured.add(candidate["id"])
                self._observation.tell(FileMeasured(self._at, MeasuredFile.of(candidate)))
        front = front_files(candidates)
        if [file.id for file in front] != self._front:
            self._front = [file.id for file in front]
            self._observation.tell(FrontChanged(self._at, front))

    def _finished(self, error: BaseException | None) -> None:
        reason = "" if error is None else one_line(error) or type(error).__name__
        status: Ending = "interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed"
        if self._document is None:
            self._observation.tell(SearchFinished(self._at, status, reason))
            return
        document = self._document
        files = {role: candidate_of(document, document[role]) for role in ("recommended", "nearest")}
        chosen = {role: None if file is None else MeasuredFile.of(file) for role, file in files.items()}
        self._observation.tell(
            SearchFinished(
                self._at,
                document["status"] if error is None else status,
                reason,
                self._root / FRONT,
                self._root / folder_of(document) if any(chosen.values()) else None,
                chosen["recommended"],
                chosen["nearest"],
                front_files(document["candidates"]),
            )
        )


def front_files(candidates: Sequence[Document]) -> tuple[MeasuredFile, ...]:
    """Those of the front, the fastest first. candidates: as ``front.json`` has them."""
    front = [MeasuredFile.of(c) for c in candidates if c["on_front"]]
    return tuple(sorted(front, key=lambda file: file.latency_ms.ratio))

"""The checks that every observer passes, whoever wrote it."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from autocompress.evaluation import Score
from autocompress.measured_file import FileLatency, MeasuredFile, ScoreLoss
from autocompress.plugin.contract import (
    FamilyTrained,
    FileMeasured,
    FrontChanged,
    Observer,
    PhaseBegan,
    SearchEvent,
    SearchFinished,
    SearchStarted,
    TaskOpened,
)
from autocompress.recipe import TRAIN, Recipe, Step
from autocompress.testing.checks import is_sentence

FAMILY = Recipe((Step.of("narrow", ratio=0.5), Step.of(TRAIN, batch_size=64, lr=0.001)))
VARIANT = Step.of("round", bits=8)


@dataclass(frozen=True)
class UnknownEvent(SearchEvent):
    """A kind that a later version may have."""

    event = "unknown"


class ObserverConformance:
    """Subclass it as ``TestMine`` and set ``observer`` to the class. What it needs has to be installed."""

    observer: type[Observer]

    @pytest.fixture
    def events(self, tmp_path: Path) -> list[SearchEvent]:
        """Of a whole search, whose run folder is there with what it delivered."""
        return events_of_a_search(tmp_path / "run")

    def test_it_is_named_and_can_be_made(self) -> None:
        own = self.observer
        is_class = isinstance(own, type) and issubclass(own, Observer)
        assert is_class, f"`observer` must be the class, a subclass of Observer, not {own!r}"
        name = getattr(own, "name", None)
        assert isinstance(name, str) and name.isidentifier(), f"name must be an identifier, not {name!r}"  # noqa: PT018
        assert is_sentence(own.summary), f"summary must be one line for a list, not {own.summary!r}"
        reason = own.unavailable()
        assert reason is None or is_sentence(reason), f"unavailable must answer None or a reason, not {reason!r}"
        assert reason is None, f"it cannot be tested here: {reason}"
        own()

    def test_it_takes_in_a_whole_search_and_leaves_what_it_is_told_as_it_is(self, events: list[SearchEvent]) -> None:
        before = copy.deepcopy(events)
        told(self.observer(), events)
        assert events == before, "what it is told it leaves as it is"

    def test_one_search_after_another_has_an_observer_of_its_own(self, tmp_path: Path) -> None:
        for name in ("one", "other"):
            told(self.observer(), events_of_a_search(tmp_path / name))

    def test_a_search_that_is_refused_leaves_nothing_of_its_own(self, events: list[SearchEvent]) -> None:
        started, phase, *_, finished = events
        assert isinstance(started, SearchStarted)
        before = sorted(started.folder.rglob("*"))
        told(self.observer(), [started, phase, ended(finished, "failed", "the task cannot be read", whole=False)])
        left = sorted(set(started.folder.rglob("*")) - set(before))
        assert not left, f"bad input leaves nothing behind, but it wrote {left[0].name} before the task was open"

    def test_a_search_that_is_interrupted_before_anything_is_found(self, events: list[SearchEvent]) -> None:
        opened = next(at for at, event in enumerate(events) if isinstance(event, TaskOpened))
        told(self.observer(), [*events[: opened + 1], ended(events[-1], "interrupted", "interrupted", whole=False)])

    def test_a_search_in_which_nothing_meets_the_budget(self, events: list[SearchEvent]) -> None:
        told(self.observer(), [*events[:-1], ended(events[-1], "infeasible", "", whole=True)])

    def test_events_of_kinds_it_does_not_know_are_passed_over(self, events: list[SearchEvent]) -> None:
        told(self.observer(), [known for event in events for known in (event, UnknownEvent(event.elapsed_s))])


def told(observer: Observer, events: list[SearchEvent]) -> None:
    for event in events:
        try:
            observer.observe(event)
        except Exception as error:
            raise AssertionError(f"it raised of {type(event).__name__}: {error!r}") from error


def ended(finished: SearchEvent, status: str, reason: str, *, whole: bool) -> SearchFinished:
    """The end of a search as another one ends. whole: with files, of which none is recommended."""
    assert isinstance(finished, SearchFinished)
    if not whole:
        return SearchFinished(finished.elapsed_s, status, reason)  # type: ignore[arg-type]
    nearest = finished.recommended
    return replace(finished, status=status, reason=reason, recommended=None, nearest=nearest)  # type: ignore[arg-type]


def events_of_a_search(folder: Path) -> list[SearchEvent]:
    """One of every kind and more, of a search with two files. folder: of the run, made here."""
    delivered = folder / "recommended"
    delivered.mkdir(parents=True)
    for name in ("model.onnx", "recipe.toml"):
        (delivered / name).write_text("")
    (folder / "front.json").write_text("{}")
    reference, trained = a_file("reference", Recipe(), 1.0), a_file("a-1", FAMILY, 0.4)
    rewritten = replace(a_file("b-1", FAMILY.rewritten(VARIANT), 0.2), memory_bytes=1 << 20)
    tested = replace(rewritten, score=replace(rewritten.score, test=0.9), finalist=True)
    budget = {"budget_ms": None, "speedup": 3.0, "max_drop": None, "max_class_drop": None}
    settings = {"minutes": 15.0, "trials": None, "seed": 0, "space": "default", "no_train": False}
    return [
        SearchStarted(0.0, "my_task.py:task", folder, "cpu", budget, settings),
        PhaseBegan(0.0, "open"),
        TaskOpened(2.0, "my_task", "accuracy", True, reference, ("narrow", "round"), {"split": "it has none"}),
        FileMeasured(2.0, reference),
        PhaseBegan(2.5, "search"),
        FamilyTrained(9.0, FAMILY.id, FAMILY, 1, 0.5, 1000, 5.0),
        FileMeasured(9.0, trained),
        FrontChanged(9.0, (trained,)),
        FileMeasured(9.0, rewritten),
        FrontChanged(9.0, (rewritten, trained)),
        PhaseBegan(60.0, "finish"),
        SearchFinished(80.0, "feasible", "", folder / "front.json", delivered, tested, None, (tested, trained)),
    ]


def a_file(name: str, recipe: Recipe, ratio: float) -> MeasuredFile:
    return MeasuredFile(
        id=name,
        recipe=recipe,
        score=Score(0.9, 0.88, 0.92),
        latency_ms=FileLatency(ratio, ratio, ratio, 0.9 * ratio, 1.1 * ratio, ratio, 0.9 * ratio, 1.1 * ratio),
        size_bytes=1000,
        compressed_bytes=900,
        params=250,
        macs=5000,
        artifact=f"candidates/{name}/model.onnx",
        loss=ScoreLoss(0.5, 0.2),
        feasible=ratio < 1 / 3,
        on_front=ratio < 1,
    )

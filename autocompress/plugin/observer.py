"""What an observer is told of a search, and what the author of one implements."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from autocompress.measured_file import MeasuredFile
from autocompress.recipe import Recipe

Phase = Literal["open", "search", "finish"]
Ending = Literal["feasible", "infeasible", "interrupted", "failed"]


@dataclass(frozen=True)
class SearchEvent:
    """Something happened. elapsed_s: seconds into the search, over its resumes. event: its name as JSON."""

    event: ClassVar[str]
    elapsed_s: float

    def to_json(self) -> dict[str, Any]:
        """Its name and its fields: what a line of ``--json-lines`` holds."""
        return {"event": self.event, **_plain(self)}


@dataclass(frozen=True)
class SearchStarted(SearchEvent):
    """Always the first. task: where it comes from, or its name. folder: of the run, absolute. profile: its name.
    budget, settings: what was asked, by the names of ``search``'s arguments.
    """

    event = "started"
    task: str
    folder: Path
    profile: str
    budget: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class PhaseBegan(SearchEvent):
    """open: the task is read and the unchanged model measured. search: candidates. finish: finalists are trained in
    full and timed, one file is chosen and tested.
    """

    event = "phase"
    phase: Phase


@dataclass(frozen=True)
class TaskOpened(SearchEvent):
    """The unchanged model was measured. name: of the task. maximize: whether higher values of the metric are better.
    strategies: what the search chooses from; refused: those that do not apply, with the reason.
    """

    event = "opened"
    name: str
    metric: str
    maximize: bool
    reference: MeasuredFile
    strategies: tuple[str, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class FamilyTrained(SearchEvent):
    """A family was trained, or trained on. family: its id. epochs, examples, seconds: of this training; rung: which of
    its trainings that was.
    """

    event = "trained"
    family: str
    recipe: Recipe
    rung: int
    epochs: float
    examples: int
    seconds: float


@dataclass(frozen=True)
class FileMeasured(SearchEvent):
    """A file was timed and scored; told once of each, with what was known of it then."""

    event = "measured"
    file: MeasuredFile


@dataclass(frozen=True)
class FrontChanged(SearchEvent):
    """Other files are on the front now. front: all of it, the fastest first."""

    event = "front"
    front: tuple[MeasuredFile, ...]


@dataclass(frozen=True)
class SearchFinished(SearchEvent):
    """Always the last, unless the process is killed. status: as in ``front.json``, or how the search ended before its
    end, with the reason. front_json: the document of the run; None where there is none. delivered: the folder
    ``recommended/``, or ``nearest/``. recommended, nearest, front: as they are in it; one of the first two at most.
    """

    event = "finished"
    status: Ending
    reason: str = ""
    front_json: Path | None = None
    delivered: Path | None = None
    recommended: MeasuredFile | None = None
    nearest: MeasuredFile | None = None
    front: tuple[MeasuredFile, ...] = ()


class Observer(ABC):
    """Told what happens in one search; each search makes an observer of its own. What it is told is its own copy:
    nothing that it does, or raises, reaches the search.
    """

    name: str
    summary: str = ""

    @classmethod
    def unavailable(cls) -> str | None:
        """Why it cannot be used here, in one line with the fix, such as a package that is not installed; None when it
        can.
        """
        return None

    @abstractmethod
    def observe(self, event: SearchEvent) -> None:
        """Called with one event after another, in order, on a thread of its own: the search never waits for it. Events
        of kinds it does not know are to be passed over.
        """


def _plain(value: Any) -> Any:
    """As JSON has it: a number that is not finite is null there."""
    if isinstance(value, Recipe):
        return value.to_json()
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value

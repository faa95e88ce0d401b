"""How far a search has come, beside what happened in it: all that its record holds but trials and facts is written and
read here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.recipe import Recipe
from autocompress.task_source import TaskSource

Kept = dict[str, Any]


class AttributeRecord(Protocol):
    """What it needs of the record of a search."""

    path: Path

    def get(self, key: str, default: Any = None) -> Any: ...
    def set(self, key: str, value: Any) -> None: ...


class Progress:
    """Written at once; what earlier processes wrote is there. Nothing else is kept of it in memory."""

    def __init__(self, record: AttributeRecord) -> None:
        self._record = record
        self.path = record.path

    # Of the whole search.

    @property
    def schema(self) -> int | None:
        """The version of the record; None when it was not noted."""
        schema: int | None = self._record.get("schema")
        return schema

    def keep_schema(self, schema: int) -> None:
        self._record.set("schema", schema)

    @property
    def elapsed_s(self) -> float:
        """Seconds, of all processes."""
        return float(self._record.get("elapsed_s", 0.0))

    def keep_elapsed(self, seconds: float) -> None:
        self._record.set("elapsed_s", seconds)

    @property
    def finished(self) -> Kept | None:
        """What was asked of the search that came to its end; None before."""
        asked: Kept | None = self._record.get("finished")
        return asked

    def keep_finished(self, asked: Kept) -> None:
        self._record.set("finished", asked)

    @property
    def task(self) -> TaskSource | None:
        """Where the task came from; None for an object of a program."""
        stored: Kept | None = self._record.get("task")
        return None if stored is None else TaskSource(str(stored["target"]), str(stored["file"]), str(stored["digest"]))

    def keep_task(self, source: TaskSource) -> None:
        self._record.set("task", asdict(source))

    # Of opening it: each is None when the task was never opened.

    @property
    def identity(self) -> Kept | None:
        """What makes the search the one it is."""
        identity: Kept | None = self._record.get("identity")
        return identity

    @property
    def prepared_s(self) -> float | None:
        """Seconds that preparing the task took."""
        seconds: float | None = self._record.get("prepared_s")
        return seconds

    @property
    def floor(self) -> Kept | None:
        floor: Kept | None = self._record.get("floor")
        return floor

    @property
    def opening(self) -> Kept | None:
        opening: Kept | None = self._record.get("opening")
        return opening

    def keep_opened(self, *, identity: Kept, prepared_s: float, floor: Kept | None, opening: Kept) -> None:
        """The task is open."""
        self._record.set("identity", identity)
        self._record.set("prepared_s", prepared_s)
        self._record.set("floor", floor)
        self._record.set("opening", opening)

    @property
    def arithmetic(self) -> Arithmetic | None:
        """How trainings compute; None before that was timed, and where it is not available any more."""
        stored: Kept | None = self._record.get("arithmetic")
        found = stored and Arithmetic(**stored)
        return found if found and found.available() else None

    def keep_arithmetic(self, arithmetic: Arithmetic) -> None:
        """How trainings compute from now on."""
        self._record.set("arithmetic", asdict(arithmetic))

    # Of what comes next in it.

    @property
    def lengths(self) -> list[tuple[float, int]]:
        """Seconds and examples of each rung; of none before the first process chose them."""
        return [(seconds, examples) for seconds, examples in self._record.get("lengths") or ()]

    @property
    def is_lengthened(self) -> bool:
        """Whether the rungs are longer than at first."""
        return bool(self._record.get("lengthened"))

    def keep_lengths(self, lengths: Iterable[tuple[float, int]], *, lengthened: bool) -> None:
        self._record.set("lengths", [list(length) for length in lengths])
        self._record.set("lengthened", lengthened)

    @property
    def is_begun(self) -> bool:
        """Whether the first recipes are known."""
        return bool(self._record.get("started"))

    @property
    def first(self) -> list[Recipe]:
        """The recipes that come first."""
        return self._recipes("first")

    @property
    def defaults(self) -> list[Recipe]:
        """Of each strategy alone."""
        return self._recipes("defaults")

    def keep_begun(self, *, first: Sequence[Recipe], defaults: Sequence[Recipe]) -> None:
        self._record.set("first", [recipe.to_json() for recipe in first])
        self._record.set("defaults", [recipe.to_json() for recipe in defaults])
        self._record.set("started", True)

    @property
    def pending(self) -> list[Recipe]:
        """The recipes that are under way."""
        return self._recipes("pending")

    def keep_pending(self, pending: Iterable[Recipe]) -> None:
        self._record.set("pending", [recipe.to_json() for recipe in pending])

    def _recipes(self, key: str) -> list[Recipe]:
        return [Recipe.from_json(recipe) for recipe in self._record.get(key) or []]

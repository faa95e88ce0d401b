"""Plays a scenario: a whole search, process after process, on a clock that moves by what is declared alone."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from autocompress.errors import AutocompressError, Interrupted
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.driver import Search
from autocompress.explore.opening.identity import Settings
from autocompress.explore.opening.opener import Opened, Opener
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.space.space_file import SpaceFile
from autocompress.explore.view import View
from autocompress.recipe import Recipe
from autocompress.report.document import Circumstances, front_document
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record

from . import openings
from .declared import Declared
from .entries import Entry, plain
from .files import Remembered
from .groups import DeclaredOperations, RecordedGating, RecordedPipeline
from .loop import DeclaredLoop
from .memory_record import MemoryRecord
from .operations import Call, DeclaredExecutor, Killed
from .scenarios import SCENARIOS, Process, Scenario

Played = dict[str, Any]


@dataclass
class Kept:
    """What outlives the processes of a search: its record, what its workers made, how often it asked for each group."""

    record: MemoryRecord = field(default_factory=MemoryRecord)
    remembered: Remembered = field(default_factory=Remembered)
    asked: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Ended:
    """One process of a search. calls: the groups that it asked for; operations: each as it was asked for. why: the
    error that ended it, None when nothing did. opened: what it began with, None when the task could not be opened.
    document: that of ``front.json``, None without a search.
    """

    calls: Sequence[Entry]
    operations: Sequence[Call]
    notes: Sequence[str]
    why: str | None
    opened: Opened | None
    document: Played | None
    elapsed_s: float

    @property
    def front(self) -> Played:
        """The document of one that came to its end."""
        assert self.why is None, self.why
        assert self.document is not None
        return self.document

    def asked(self, *groups: str) -> list[Entry]:
        """The calls of these groups, in order."""
        return [call for call in self.calls if call["call"] in groups]


def play(scenario: Scenario, root: Path) -> Played:
    """``{"processes": [{"calls", "notes", "ended"}, ...], "end": ...}``; the end is of the last one. root: of the run
    folder, which is new.
    """
    ended = searched(scenario, root)
    processes = [
        {"minutes": process.minutes, "calls": one.calls, "notes": one.notes, "ended": one.why}
        for process, one in zip(scenario.processes, ended, strict=True)
    ]
    last = ended[-1].document
    return {"processes": plain(processes), "end": plain(None if last is None else _end(last))}


def play_opening(scenario: Scenario, root: Path) -> Played:
    """The same of processes that end once the task is open; ``calls`` are operations, not groups of them."""
    ended = searched(scenario, root, only_open=True)
    processes = [
        {
            "minutes": process.minutes,
            "calls": [openings.operation(*call) for call in one.operations],
            "notes": one.notes,
            "ended": one.why,
        }
        for process, one in zip(scenario.processes, ended, strict=True)
    ]
    last = ended[-1]
    return {
        "processes": plain(processes),
        "end": plain(None if last.opened is None else openings.result(last.opened, last.elapsed_s)),
    }


def searched(
    scenario: Scenario,
    root: Path,
    kept: Kept | None = None,
    view: View | None = None,
    policy: SearchPolicy = SearchPolicy(),
    *,
    only_open: bool = False,
) -> list[Ended]:
    """How each process of a scenario ended. kept: what an earlier scenario left in the same run folder. view: shown
    what a user is. only_open: no process searches.
    """
    policy = replace(policy, parts=replace(policy.parts, gating=RecordedGating))
    declared, kept, ended = Declared(scenario.kind, scenario.seed, scenario.faults), kept or Kept(), []
    folder = RunFolder(root)
    for process in scenario.processes:
        with (
            _claimed(folder, None if scenario.written else kept.record) as record,
            asyncio.Runner(loop_factory=DeclaredLoop) as runner,
        ):
            executor = DeclaredExecutor(
                declared, scenario.workers, kept.asked, kept.remembered, root, scenario.crashing, process.stop
            )
            run = _process(scenario, process, executor, folder, record, _Notes(view), policy, only_open=only_open)
            ended.append(runner.run(run))
    return ended


@contextmanager
def _claimed(folder: RunFolder, memory: MemoryRecord | None) -> Iterator[Any]:
    """The record of a run folder that is this process's, for which nobody waits until it is on the disk."""
    folder.claim()
    folder.make_candidates()  # as whoever makes files does
    event.listen(Engine, "connect", _hurry)
    record = memory or open_record(folder.study)
    try:
        yield record
    finally:
        record.close()
        event.remove(Engine, "connect", _hurry)
        folder.release()


def _hurry(connection: Any, _: Any) -> None:
    connection.execute("pragma synchronous = off")


async def _process(
    scenario: Scenario,
    process: Process,
    executor: DeclaredExecutor,
    folder: RunFolder,
    record: Any,
    view: "_Notes",
    policy: SearchPolicy,
    *,
    only_open: bool,
) -> Ended:
    """One process, and the front."""
    space = SpaceFile(name=scenario.name, strategies=scenario.strategies, parameters=dict(scenario.choices))
    settings = Settings(
        scenario.budget,
        process.minutes,
        process.trials,
        scenario.seed,
        scenario.profile,
        space,
        folder.root,
        explain=scenario.explain,
    )
    clock = Clock(process.minutes * 60, record.get("elapsed_s", 0.0), asyncio.get_running_loop().time)
    durations = Durations(clock)
    operations = DeclaredOperations(executor, clock.elapsed, view.note, scenario.beside)

    def check_interrupted() -> None:
        if executor.interrupted:
            raise Interrupted("stopped at a safe point")

    why, opened, search, document = None, None, None, None
    try:
        shown = view.opened, view.note
        opener = Opener(settings, operations, folder, record, clock, durations, check_interrupted, *shown, policy)
        opened = await opener.open()
        opened = replace(opened, pipeline=RecordedPipeline.like(opened.pipeline))
        if not only_open:
            search = Search(settings, opened, operations, folder, record, view, clock, durations, check_interrupted)
            await search.run()
    except AutocompressError as error:
        why = f"{type(error).__name__}: {error}"
        record.set("elapsed_s", clock.elapsed())
    except Killed:
        why = "killed"
    if search is not None:
        around = Circumstances(
            settings.profile, scenario.seed, {}, clock.elapsed(), {}, process.minutes, search.floor, search.full_epochs
        )
        document = front_document(search.standings, around)
    return Ended(executor.log.entries, executor.calls, view.notes, why, opened, document, clock.elapsed())


def _end(document: dict[str, Any]) -> Played:
    """What front.json says, in short. A candidate: id, epochs, feasible, on the front, score, test score, ratio,
    statistic in ms, quiet sessions, second.
    """
    kept = ("status", "recommended", "nearest", "rank_correlation", "tried", "warnings", "wall_seconds")
    return {
        **{key: document[key] for key in kept},
        "reference": _point(document["reference"]),
        "candidates": [
            [c["id"], c["fidelity"], c["feasible"], c["on_front"], *_point(c), c["elapsed_s"]]
            for c in document["candidates"]
        ],
        "rejected": [[_written(r["recipe"]), r["reason"], r["ratio"]] for r in document["rejected"]],
        "failed": [[_written(f["recipe"]), f["strategy"], f["reason"]] for f in document["failed"]],
        "refused": [[r["strategy"], r["reason"]] for r in document["refused"]],
    }


def _point(candidate: dict[str, Any]) -> list[Any]:
    score, latency = candidate["score"], candidate["latency_ms"]
    return [
        score["val"],
        score["sampled"],
        score["test"],
        latency["ratio"],
        latency["statistic"],
        latency["quiet_sessions"],
    ]


def _written(recipe: list[dict[str, Any]]) -> str:
    return str(Recipe.from_json(recipe))


class _Notes:
    """Keeps the lines that are said to a user. shown: what the user looks at, if anything."""

    def __init__(self, shown: View | None) -> None:
        self.notes: list[str] = []
        self._shown = shown

    def phase(self, name: Any) -> None:
        if self._shown is not None:
            self._shown.phase(name)

    def opened(self, opening: Any, space: Any) -> None:
        if self._shown is not None:
            self._shown.opened(opening, space)

    def note(self, text: str) -> None:
        self.notes.append(text)
        if self._shown is not None:
            self._shown.note(text)

    def status(self, standings: Any, left_s: float) -> None:
        if self._shown is not None:
            self._shown.status(standings, left_s)


@dataclass(frozen=True)
class Recording:
    """name: of the file. play: in a run folder that is new."""

    name: str
    scenario: Scenario
    play: Callable[[Scenario, Path], Played]


RECORDINGS = (
    *(Recording(scenario.name, scenario, play) for scenario in SCENARIOS),
    *(Recording(f"openings/{scenario.name}", scenario, play_opening) for scenario in openings.OPENINGS),
)

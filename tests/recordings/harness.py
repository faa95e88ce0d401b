"""Plays a scenario: a whole search, process after process, on a clock that moves by what is declared alone."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import Engine, event

from autocompress.compute.operations import WorkerOperations
from autocompress.errors import AutocompressError, Interrupted
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.driver import Search
from autocompress.explore.opening.identity import Settings
from autocompress.explore.opening.opener import Opener
from autocompress.explore.space.space_file import SpaceFile
from autocompress.profile import load_profile
from autocompress.recipe import Recipe
from autocompress.report.document import Circumstances, front_document
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record

from .declared import Declared
from .entries import plain
from .loop import DeclaredLoop
from .memory_record import MemoryRecord
from .operations import DeclaredExecutor, Killed, RecordedPipeline, Remembered, open_reference
from .scenarios import Process, Scenario

Played = dict[str, Any]


def play(scenario: Scenario, root: Path) -> Played:
    """``{"processes": [{"calls", "notes", "ended"}, ...], "end": ...}``; the end is of the last one. root: of the run
    folder, which is new.
    """
    declared, asked = Declared(scenario.kind, scenario.seed, scenario.faults), Counter[str]()
    folder, memory, processes, end = RunFolder(root), MemoryRecord(), [], None
    remembered = Remembered()
    for process in scenario.processes:
        with (
            _claimed(folder, None if scenario.written else memory) as record,
            asyncio.Runner(loop_factory=DeclaredLoop) as runner,
        ):
            executor = DeclaredExecutor(
                declared, scenario.lanes, asked, remembered, root, scenario.crashing, process.stop
            )
            with _declared(executor):
                played, end = runner.run(_search(scenario, process, executor, folder, record))
        processes.append(played)
    return {"processes": plain(processes), "end": plain(end)}


@contextmanager
def _claimed(folder: RunFolder, memory: MemoryRecord | None) -> Iterator[Any]:
    """The record of a run folder that is this process's, for which nobody waits until it is on the disk."""
    folder.claim()
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


@contextmanager
def _declared(executor: DeclaredExecutor) -> Iterator[None]:
    """What is opened and made is declared, and nothing of it is written."""
    RecordedPipeline.executor = executor
    with (
        mock.patch("autocompress.explore.opening.opener.Pipeline", RecordedPipeline),
        mock.patch("autocompress.explore.opening.opener.open_reference", open_reference),
        mock.patch("autocompress.explore.pipeline.pipeline.write_text"),
    ):
        yield


async def _search(
    scenario: Scenario, process: Process, executor: DeclaredExecutor, folder: RunFolder, record: Any
) -> tuple[Played, Played | None]:
    """One process: what it asked for, and the front."""
    space = SpaceFile(name=scenario.name, strategies=scenario.strategies, parameters=dict(scenario.choices))
    settings = Settings(
        scenario.budget, process.minutes, process.trials, scenario.seed, load_profile("cpu"), space, folder.root
    )
    clock = Clock(process.minutes * 60, record.get("elapsed_s", 0.0), asyncio.get_running_loop().time)
    view, durations = _Notes(), Durations(clock)
    operations = WorkerOperations(executor, executor, clock.elapsed, view.note)

    def check_interrupted() -> None:
        if executor.interrupted:
            raise Interrupted("stopped at a safe point")

    ended, search = None, None
    try:
        opener = Opener(settings, operations, folder, record, clock, durations, check_interrupted, view.note)
        opened = await opener.open()
        search = Search(settings, opened, operations, folder, record, view, clock, durations, check_interrupted)
        await search.run()
    except AutocompressError as error:
        ended = f"{type(error).__name__}: {error}"
        record.set("elapsed_s", clock.elapsed())
    except Killed:
        ended = "killed"
    played = {"minutes": process.minutes, "calls": executor.log.entries, "notes": view.notes, "ended": ended}
    if search is None:
        return played, None
    around = Circumstances("cpu", "p90", scenario.seed, {}, clock.elapsed(), {})
    return played, _end(front_document(search.standings, around))


def _end(document: dict[str, Any]) -> Played:
    """What front.json says, in short. A candidate: id, epochs, feasible, on the front, score, test score, ratio,
    statistic in ms, reliable, second.
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
    return [score["val"], score["test"], latency["ratio"], latency["statistic"], latency["reliable"]]


def _written(recipe: list[dict[str, Any]]) -> str:
    return str(Recipe.from_json(recipe))


class _Notes:
    """What a user is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def opened(self, opening: Any, space: Any) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def status(self, standings: Any, left_s: float) -> None: ...

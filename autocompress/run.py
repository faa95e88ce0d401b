"""One search in its run folder, from its first process to what it delivers."""

import asyncio
import shlex
import signal
import sys
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from autocompress.compute.in_process import in_process
from autocompress.compute.operations import WorkerOperations
from autocompress.compute.policy import WorkerPolicy
from autocompress.compute.processes import worker_processes
from autocompress.compute.worker import WorkerConfig
from autocompress.errors import AutocompressError, Interrupted, UsageError
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.driver import Search
from autocompress.explore.earlier_run import EarlierRun
from autocompress.explore.opening.identity import Settings, settings_json
from autocompress.explore.opening.opener import Opener
from autocompress.explore.opening.opening import Opening
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.progress import Progress
from autocompress.fingerprint import differences_of
from autocompress.plugin.loader import PluginSet
from autocompress.plugin.observer import Observer
from autocompress.plugin.task_targets import source_of
from autocompress.report.observed_view import ObservedView
from autocompress.report.results import write_results
from autocompress.report.search_result import SearchResult
from autocompress.report.terminal import TerminalView, print_front, teller
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import read_front
from autocompress.storage.record import open_record
from autocompress.storage.recovery import recover
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor, stop_signals
from autocompress.task import Task

SCORING_SHARE = 0.03  # of a search's time, that scoring the reference may take: a search scores some ten files and more


@dataclass(frozen=True)
class RunRequest:
    """What one run is asked for. task: an object, or what it is called, which a worker process opens. workers:
    processes that compute. observers: told what happens.
    """

    settings: Settings
    task: Task | str
    workers: int
    observers: Sequence[Observer]


def run_in_folder(
    asked: RunRequest,
    plugins: PluginSet,
    console: Console,
    quiet: bool,
    policy: SearchPolicy,
    given: tuple[Path, EarlierRun] | None = None,
) -> SearchResult:
    """A search in its run folder. given: where it has its models from, in place of exploring."""
    folder = RunFolder(asked.settings.out)
    folder.claim()

    try:
        recover(folder, teller(console, quiet))
        if given is not None:
            Store(folder.stored).take(Store(RunFolder(given[0]).stored), given[1].keys)
        return SearchResult(
            asked.settings.out, _run(asked, folder, plugins, console, quiet, policy, given and given[1])
        )
    except UsageError:
        folder.discard()  # bad input leaves nothing behind
        raise
    finally:
        folder.release()


def _run(
    asked: RunRequest,
    folder: RunFolder,
    plugins: PluginSet,
    console: Console,
    quiet: bool,
    policy: SearchPolicy,
    given: EarlierRun | None,
) -> dict[str, Any]:
    settings, task, record = asked.settings, asked.task, open_record(folder.study)
    progress = Progress(record)
    whole_settings = settings_json(settings) | ({} if given is None else {"given": given.digest})
    clock = Clock(settings.minutes * 60, progress.elapsed_s)
    durations = Durations(clock)
    search: Search | None = None  # once the task is open
    named, tell_failures = task if isinstance(task, str) else task.name, teller(console, quiet=False)
    with (
        TerminalView(console, quiet) as terminal,
        ObservedView(terminal, asked.observers, tell_failures, named, settings, clock.elapsed) as view,
        stop_signals() as interrupted,
    ):
        supervisor = Supervisor(terminal.doing, view.note, lambda: interrupted() is not None)
        operations = operations_for(
            settings, task, asked.workers, folder, plugins, terminal, supervisor, clock, policy.workers, progress
        )

        async def whole() -> dict[str, Any]:
            nonlocal search
            try:
                view.phase("open")
                opened = await Opener(
                    settings,
                    operations,
                    folder,
                    record,
                    clock,
                    durations,
                    supervisor.check,
                    view.opened,
                    view.note,
                    policy,
                ).open()
                if given is not None:
                    _refuse_another_task(opened.opening, given)
                if isinstance(task, str) and (source := source_of(task, plugins)) is not None:
                    progress.keep_task(source)
                search = Search(settings, opened, operations, folder, record, view, clock, durations, supervisor.check)
                if progress.finished == whole_settings and folder.front.exists():
                    view.note(
                        f"{folder.root} is finished: the same command again prints its result; more --minutes go on."
                    )
                    return read_front(folder.root)
                if given is not None:
                    await search.make_again(given.rungs)
                else:
                    await search.run()
                document = write_results(search, settings, folder, plugins, clock, operations)
                progress.keep_finished(whole_settings)
                return document
            finally:
                operations.kill()  # what is still under way is no longer wanted

        try:
            document = run_to_end(whole())
            view.delivered(document)
        except AutocompressError as error:
            with suppress(AutocompressError, OSError):  # the first error is the one to tell
                if progress.opening is not None and not isinstance(error, UsageError):
                    progress.keep_elapsed(clock.elapsed())
                if search is not None:
                    search.conclude_as_it_stands()
                    view.delivered(write_results(search, settings, folder, plugins, clock, operations))
            stopped = interrupted()
            if stopped is None:
                if search is not None and isinstance(error, UsageError):  # but by now there is something to lose
                    raise AutocompressError(str(error)) from error
                raise
            typed = Path(sys.argv[0]).stem in ("autocompress", "__main__")
            command = (
                shlex.join(["autocompress", *sys.argv[1:]]) if typed else f"search again with out={str(folder.root)!r}"
            )
            code = 143 if stopped == signal.SIGTERM else 130
            message = f"interrupted, everything finished is kept; to go on: {command}"
            raise Interrupted(message, code) from error
        finally:
            operations.close()
            record.close()
    if not quiet:
        print_front(console, document, str(folder.root))
    return document


def _refuse_another_task(opening: Opening, given: EarlierRun) -> None:
    """Raises UsageError when a task is another one than that whose models are given."""
    if opening.prepared.fingerprint != given.fingerprint:
        how = differences_of(given.parts, opening.prepared.parts) or "its data or its model differ"
        raise UsageError(f"the run was made for another task ({how}): give the task it was made for")


def run_to_end(whole: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """``asyncio.run``, also from inside a running loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(whole)
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, whole).result()


def operations_for(
    settings: Settings,
    task: Task | str,
    workers: int,
    folder: RunFolder,
    plugins: PluginSet,
    view: TerminalView,
    supervisor: Supervisor,
    clock: Clock,
    policy: WorkerPolicy,
    progress: Progress,
) -> WorkerOperations:
    """Computed by worker processes for a task that they can open, and by this process for an object of its own."""
    if policy.training.scoring_s is None:
        scoring_s = SCORING_SHARE * 60 * settings.minutes
        policy = replace(policy, training=replace(policy.training, scoring_s=scoring_s))
    if isinstance(task, str):
        config = WorkerConfig(task, settings.profile, folder.root, settings.seed, workers, policy)
        return worker_processes(
            config,
            folder.worker_log,
            view.doing,
            supervisor.stop,
            view.note,
            clock.elapsed,
            settled=progress.keep_arithmetic,
        )
    return in_process(
        task,
        settings.profile,
        plugins,
        folder,
        seed=settings.seed,
        supervisor=supervisor,
        clock=clock.elapsed,
        policy=policy.training,
    )

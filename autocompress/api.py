"""``search``: the same job as the command, from Python."""

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from autocompress.budget import Budget
from autocompress.compute.in_process import in_process
from autocompress.compute.operations import WorkerOperations
from autocompress.compute.policy import WorkerPolicy
from autocompress.compute.processes import worker_processes
from autocompress.compute.worker import WorkerConfig
from autocompress.errors import AutocompressError, Interrupted, UsageError
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.driver import Search
from autocompress.explore.earlier_run import EarlierRun, read_earlier
from autocompress.explore.opening.identity import Settings, settings_json
from autocompress.explore.opening.opener import Opener
from autocompress.explore.opening.opening import Opening
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.progress import Progress
from autocompress.explore.space.space_file import SpaceFile, load_space
from autocompress.fingerprint import differences_of
from autocompress.hub_request import HubRequest, target_with
from autocompress.machine.cores import cores
from autocompress.measure import check_memory, check_place, device_kind
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.plugin.observer import Observer
from autocompress.plugin.task_targets import hub_and_request, source_of
from autocompress.profile import load_profile
from autocompress.report.observed_view import ObservedView
from autocompress.report.results import write_results
from autocompress.report.search_result import SearchResult
from autocompress.report.terminal import TerminalView, print_front
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import read_front
from autocompress.storage.ownership import RUN, own_or_free
from autocompress.storage.record import open_record
from autocompress.storage.recovery import recover
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor, stop_signals, tell_nobody
from autocompress.task import Task

DEMO = "autocompress.demo.digits:task"
DEFAULT_MINUTES = 15.0
RETARGET_MINUTES = 5.0
DEMO_MINUTES = 1.5
DEFAULT_WORKERS = 1
SCORING_SHARE = 0.03  # of a search's time, that scoring the reference may take: a search scores some ten files and more


def search(
    task: Task | str | None = None,
    *,
    data: str | Path | None = None,
    checkpoint: str | Path | None = None,
    budget_ms: float | None = None,
    speedup: float | None = None,
    max_drop: float | None = None,
    max_class_drop: float | None = None,
    profile: str = "cpu",
    space: str = "default",
    minutes: float | None = None,
    trials: int | None = None,
    workers: int | None = None,
    no_train: bool = False,
    explain: bool = False,
    out: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
    console: Console | None = None,
    observe: Sequence[str | Observer] = (),
    plugins: PluginSet | None = None,
    policy: SearchPolicy = SearchPolicy(),
) -> SearchResult:
    """Search for the most accurate model within a latency budget. The result is made from ``front.json``.

    task: ``"my_task.py:factory"`` (computed in a worker process that may crash without the search), ``"hf:MODEL"`` or
    another hub's with ``data``, or a Task object (computed in this process: a plug-in that hangs hangs the search);
    None runs the bundled digits demo. data: of a hub's model, a path or a name. checkpoint: a file of its weights, in
    place of its own. budget_ms: milliseconds on the profile's statistic. speedup: times faster than the reference, on
    the ratio to it; excludes ``budget_ms``. max_drop: points of score that may be lost; max_class_drop: in any one
    class, or group that the task names. minutes: in all, over resumes, finishing included (15; 1.5 for the demo).
    trials: families at most. no_train: nothing is trained; what is repaired, reconstructed, quantized or dropped is
    measured as it is. explain: a quarter of the time goes into the best recipe without each of its steps. workers:
    processes that share the cores and compute candidates side by side (1), fewer where they do not fit into memory; a
    Task object has one. out: the run folder (``runs/<task>``); the same call on it resumes. observe: who is told what
    happens: names of installed observers, or Observers. policy: what a search decides by; for benchmarks.

    Raises UsageError for bad input, Interrupted with the state saved, AutocompressError for anything else a user can
    act on.
    """
    console, plugins = console or Console(stderr=True), plugins or load_plugins()
    workers = workers_for(workers)
    asked = SearchRequest(
        task=named_task(task, data, checkpoint, plugins),
        budget=Budget(budget_ms, speedup, max_drop, max_class_drop=max_class_drop),
        profile=profile,
        space=space,
        minutes=minutes,
        trials=trials,
        no_train=no_train,
        explain=explain,
        out=Path(out) if out is not None else None,
        seed=seed,
    )
    settings = asked.settings(plugins, teller(console, quiet))
    return _run_in(settings, asked.target, workers, plugins, console, quiet, policy, observe)


@dataclass(frozen=True)
class SearchRequest:
    """What ``search`` is asked for, as it is given."""

    task: Task | str | None
    budget: Budget
    profile: str
    space: str
    minutes: float | None
    trials: int | None
    no_train: bool
    explain: bool
    out: Path | None
    seed: int

    @property
    def target(self) -> Task | str:
        """The task; the demo's where none is given."""
        return DEMO if self.task is None else self.task

    def settings(self, plugins: PluginSet, say: Callable[[str], None]) -> Settings:
        """With what is left out. say: told what a user should know of it. Raises UsageError for what makes no sense."""
        if self.minutes is not None and not 0 < self.minutes < 1e6:
            raise UsageError(f"--minutes must be a number above 0, not {self.minutes:g}")
        if self.trials is not None and self.trials < 1:
            raise UsageError(f"--trials must be at least 1, not {self.trials}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed must be from 0 to 4294967295, not {self.seed}")
        for broken in plugins.broken:
            say(f"warning: {broken}")
        if self.task is None:
            say("No task given: searching the bundled demo, scikit-learn's handwritten digits (real scans, 8x8).")
        elif isinstance(self.task, Task):
            say(
                "The task is an object of this process, so candidates are computed "
                "here: a plug-in that crashes ends the search."
            )
        root, profile = self.out or default_out(self.target, say), load_profile(self.profile)
        return Settings(
            budget=replace(self.budget, **profile.limits),
            minutes=self.minutes or default_minutes(self.task),
            trials=self.trials,
            seed=self.seed,
            profile=profile,
            space=load_space(self.space, plugins).model_copy(update={"train": False} if self.no_train else {}),
            out=root,
            explain=self.explain,
        )


def retarget(
    run: str | Path,
    task: Task | str | None = None,
    *,
    profile: str,
    data: str | Path | None = None,
    checkpoint: str | Path | None = None,
    budget_ms: float | None = None,
    speedup: float | None = None,
    max_drop: float | None = None,
    max_class_drop: float | None = None,
    minutes: float = RETARGET_MINUTES,
    out: str | Path | None = None,
    quiet: bool = False,
    console: Console | None = None,
    observe: Sequence[str | Observer] = (),
    plugins: PluginSet | None = None,
) -> SearchResult:
    """Make the files of what a search found for another target and measure them there: nothing is trained. The run
    stays as it is, and the result is that of the other target.

    run: the run folder of the search. task, data, checkpoint: its task, as ``search`` takes it; where the run knows it
    is not needed. profile: the other target. budget_ms, speedup, max_drop, max_class_drop: as in ``search``; those of
    the run when none is given. minutes: at most. out: the folder of what is made (the run's with the profile's name).
    observe: as in ``search``.

    Raises UsageError for bad input, also when the task is another one than the run's, and what ``search`` does.
    """
    console = console or Console(stderr=True)
    root, plugins = Path(run), plugins or load_plugins()
    given = Budget(budget_ms, speedup, max_drop, max_class_drop=max_class_drop)
    if not 0 < minutes < 1e6:
        raise UsageError(f"--minutes must be a number above 0, not {minutes:g}")
    target = load_profile(profile)
    plugins.runtime_of(target)
    task = named_task(task, data, checkpoint, plugins)
    earlier = read_earlier(root)
    if task is None and earlier.task is None:
        raise UsageError(f"{root} does not say where its task came from: give it as my_task.py:factory")
    if task is None and earlier.task is not None:
        earlier.task.refuse_another(root, source_of(earlier.task.target, plugins))
        task = earlier.task.target
        if not quiet:
            console.print(f"Task {task}, as the run says.", markup=False, highlight=False, soft_wrap=True)
    assert task is not None
    settings = Settings(
        budget=replace(given if given != Budget() else earlier.budget, **target.limits),
        minutes=minutes,
        trials=None,
        seed=earlier.seed,
        profile=target,
        space=SpaceFile(name="retarget"),
        out=Path(out) if out is not None else _beside(root, target.name),
    )
    if settings.out.resolve() == root.resolve():
        raise UsageError(f"--out is the run itself, which stays as it is: give another folder than {root}")
    return _run_in(settings, task, 1, plugins, console, quiet, SearchPolicy(explores=False), observe, (root, earlier))


def _run_in(
    settings: Settings,
    task: Task | str,
    workers: int,
    plugins: PluginSet,
    console: Console,
    quiet: bool,
    policy: SearchPolicy,
    observe: Sequence[str | Observer],
    given: tuple[Path, EarlierRun] | None = None,
) -> SearchResult:
    """A search in its run folder. given: where it has its models from, in place of exploring."""
    observers = observers_of(observe, plugins)
    settings = on_its_target(settings, task, plugins)
    folder = RunFolder(settings.out)
    folder.claim()

    try:
        recover(folder, teller(console, quiet))
        if given is not None:
            Store(folder.stored).take(Store(RunFolder(given[0]).stored), given[1].keys)
        return SearchResult(
            settings.out,
            _run(settings, task, workers, folder, plugins, console, quiet, policy, observers, given and given[1]),
        )
    except UsageError:
        folder.discard()  # bad input leaves nothing behind
        raise
    finally:
        folder.release()


def _run(
    settings: Settings,
    task: Task | str,
    workers: int,
    folder: RunFolder,
    plugins: PluginSet,
    console: Console,
    quiet: bool,
    policy: SearchPolicy,
    observers: Sequence[Observer],
    given: EarlierRun | None,
) -> dict[str, Any]:
    record = open_record(folder.study)
    progress, asked = Progress(record), settings_json(settings) | ({} if given is None else {"given": given.digest})
    clock = Clock(settings.minutes * 60, progress.elapsed_s)
    durations = Durations(clock)
    search: Search | None = None  # once the task is open
    named, tell_failures = task if isinstance(task, str) else task.name, teller(console, quiet=False)
    with (
        TerminalView(console, quiet) as terminal,
        ObservedView(terminal, observers, tell_failures, named, settings, clock.elapsed) as view,
        stop_signals() as interrupted,
    ):
        supervisor = Supervisor(terminal.doing, view.note, lambda: interrupted() is not None)
        operations = operations_for(
            settings, task, workers, folder, plugins, terminal, supervisor, clock, policy.workers, progress
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
                if progress.finished == asked and folder.front.exists():
                    view.note(
                        f"{folder.root} is finished: the same command again prints its result; more --minutes go on."
                    )
                    return read_front(folder.root)
                if given is not None:
                    await search.make_again(given.rungs)
                else:
                    await search.run()
                document = write_results(search, settings, folder, plugins, clock, operations)
                progress.keep_finished(asked)
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


def workers_for(workers: int | None) -> int:
    """As many as are asked for. Raises UsageError for more than there are cores."""
    count = DEFAULT_WORKERS if workers is None else workers
    if not 1 <= count <= cores():
        raise UsageError(
            f"--workers must be from 1 to the number of cores, which is {cores()} here, not {count}: each worker "
            "computes on a core of its own at least"
        )
    return count


def observers_of(observe: str | Sequence[str | Observer], plugins: PluginSet) -> list[Observer]:
    """Those that are meant. Raises UsageError for a name that no installed observer has."""
    names = [observe] if isinstance(observe, str) else observe
    return [one if isinstance(one, Observer) else plugins.observer(str(one)) for one in names]


def on_its_target(settings: Settings, task: Task | str, plugins: PluginSet) -> Settings:
    """With the device that files are timed on. Raises UsageError where the target cannot be used here."""
    runtime = plugins.runtime_of(settings.profile)
    check_place(settings.profile)
    check_memory(settings.profile, runtime, forks=isinstance(task, str))
    return replace(settings, device=device_kind(settings.profile))


def named_task(
    task: Task | str | None, data: str | Path | None, checkpoint: str | Path | None, plugins: PluginSet
) -> Task | str | None:
    """A task as it goes on from here. Raises UsageError for data beside what brings its own, and for no such hub."""
    if isinstance(task, Task):
        if data is not None or checkpoint is not None:
            raise UsageError("data and checkpoint are for a model of a hub, and a Task object brings its own")
        return task
    target = target_with(task, data, checkpoint)
    if target is not None:
        hub_and_request(target, plugins)
    return target


def teller(console: Console, quiet: bool) -> Callable[[str], None]:
    """Shows a line to a user who wants to see any."""
    return tell_nobody if quiet else partial(console.print, markup=False, soft_wrap=True)


def default_minutes(task: Task | str | None) -> float:
    """Of a search when nobody says how long. task: None for the demo."""
    return DEMO_MINUTES if task is None else DEFAULT_MINUTES


def default_out(task: Task | str, say: Callable[[str], None]) -> Path:
    """Where a run lies when nobody says where. say: told when another folder has that name."""
    wanted = Path("runs") / _run_name(task)
    root = own_or_free(wanted, RUN)
    if root != wanted:
        say(f"{wanted} is not a run folder of autocompress and stays as it is: this run is in {root}.")
    return root


def _beside(run: Path, name: str) -> Path:
    """A folder beside a run, with a name that begins like its."""
    return run.resolve().with_name(f"{run.resolve().name}-{_as_file_name(name)}")


def _as_file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text).strip(".")


def _run_name(task: Task | str) -> str:
    if isinstance(task, Task):
        name = task.name
    elif (request := HubRequest.read(task)) is not None:
        name = request.name
    else:
        location, _, factory = task.rpartition(":") if ":" in task else (task, "", "task")
        name = "digits" if task == DEMO else factory if factory not in ("", "task") else Path(location).stem
    return _as_file_name(name) or "task"


__all__ = ["retarget", "search"]

"""``search --dry-run``: the task opened as a search opens it, one family tried, and what that says of the rest."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from autocompress.commands.inspect import reference_found, strategies_found
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.opening.identity import Settings, refuse_another_search
from autocompress.explore.opening.opener import Opener
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.progress import Progress
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.plugin.observer import Observer
from autocompress.preview.earlier_search import EarlierSearch, earlier_search
from autocompress.preview.fits import what_fits
from autocompress.preview.reach import OUT_OF_REACH, reach
from autocompress.preview.step_times import timed_steps
from autocompress.report.terminal import TerminalView, teller
from autocompress.run import operations_for, run_to_end
from autocompress.search_request import SearchRequest
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record
from autocompress.supervisor import Supervisor, stop_signals
from autocompress.task import Task

FLOOR_SHARE = 0.03  # of --minutes, for sets of strategies, where no strategy alone meets the budget


def dry_run(
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
) -> dict[str, Any]:
    """What ``search`` with the same arguments would begin with: ``reference``, what ``applies`` and what
    ``does_not_apply`` with the reason, how long steps ``takes_s`` here, what of it ``fits`` into the time, and whether
    the budget is in ``reach``. Nothing is written: the run folder is named and not made, and nobody is told of
    anything. What fits is what one worker has time for, of the time that an earlier search in the folder left.

    Raises UsageError for bad input, and for a run folder that ``search`` would refuse, Interrupted, and
    AutocompressError for anything else a user can act on.
    """
    console, plugins = console or Console(stderr=True), plugins or load_plugins()
    asked = SearchRequest(
        task=task,
        data=data,
        checkpoint=checkpoint,
        budget_ms=budget_ms,
        speedup=speedup,
        max_drop=max_drop,
        max_class_drop=max_class_drop,
        profile=profile,
        space=space,
        minutes=minutes,
        trials=trials,
        workers=workers,
        no_train=no_train,
        explain=explain,
        out=out,
        seed=seed,
        observe=observe,
    )
    wanted = asked.read(plugins, teller(console, quiet))
    settings = wanted.settings
    RunFolder(settings.out).refuse_others()
    with tempfile.TemporaryDirectory(prefix="autocompress-") as scratch:
        earlier = earlier_search(settings, Path(scratch) / "earlier")
        folder = RunFolder(Path(scratch))
        found = _in_folder(settings, wanted.task, earlier, folder, plugins, console, quiet, policy)
    return {**found, "minutes": settings.minutes, "out": str(settings.out)}


def _in_folder(
    settings: Settings,
    task: Task | str,
    earlier: EarlierSearch,
    folder: RunFolder,
    plugins: PluginSet,
    console: Console,
    quiet: bool,
    policy: SearchPolicy,
) -> dict[str, Any]:
    record, clock = open_record(folder.study), Clock(settings.minutes * 60)
    progress, durations = Progress(record), Durations(clock)
    with TerminalView(console, quiet) as view, stop_signals() as interrupted:
        supervisor = Supervisor(view.doing, view.note, lambda: interrupted() is not None)
        operations = operations_for(
            settings, task, 1, folder, plugins, view, supervisor, clock, policy.workers, progress
        )

        async def whole() -> dict[str, Any]:
            try:
                opener = Opener(
                    settings,
                    operations,
                    folder,
                    record,
                    clock,
                    durations,
                    supervisor.check,
                    lambda opening, space: None,
                    lambda text: None,
                    replace(policy, floor_share=FLOOR_SHARE),
                )
                opened = await opener.open()
                if earlier.progress is not None:
                    refuse_another_search(earlier.progress, settings, opened.space)
                times = await timed_steps(opened, progress, settings, clock.elapsed())
                reached = reach(opened, settings.budget)
                nothing_fits = earlier.finished or reached["answer"] == OUT_OF_REACH
                fits = None if nothing_fits else what_fits(opened, settings, times, earlier.spent_s)
                return {
                    **reference_found(opened.opening, opened.opening.prepared.val_examples),
                    **strategies_found(opened.opening, plugins),
                    "takes_s": asdict(times),
                    "fits": None if fits is None else asdict(fits),
                    "spent_minutes": earlier.spent_s / 60,
                    "finished": earlier.finished,
                    "reach": reached,
                    "warnings": list(opened.opening.warnings),
                }
            finally:
                operations.kill()

        try:
            return run_to_end(whole())
        finally:
            operations.close()
            record.close()


__all__ = ["dry_run"]

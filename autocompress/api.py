"""``search`` and ``retarget``: the same jobs as the commands, from Python."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from autocompress.budget import Budget
from autocompress.errors import UsageError
from autocompress.explore.earlier_run import read_earlier
from autocompress.explore.opening.identity import Settings
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.space.space_file import SpaceFile
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.plugin.observer import Observer
from autocompress.plugin.task_targets import source_of
from autocompress.profile import load_profile
from autocompress.report.search_result import SearchResult
from autocompress.report.terminal import teller
from autocompress.run import RunRequest, run_in_folder
from autocompress.search_request import SearchRequest, named_task, observers_of, on_its_target, out_beside
from autocompress.task import Task

RETARGET_MINUTES = 5.0


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
    return run_in_folder(asked.read(plugins, teller(console, quiet)), plugins, console, quiet, policy)


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
        out=Path(out) if out is not None else out_beside(root, target.name),
    )
    if settings.out.resolve() == root.resolve():
        raise UsageError(f"--out is the run itself, which stays as it is: give another folder than {root}")
    observers = observers_of(observe, plugins)
    asked = RunRequest(on_its_target(settings, task, plugins), task, 1, observers)
    return run_in_folder(asked, plugins, console, quiet, SearchPolicy(explores=False), (root, earlier))


__all__ = ["retarget", "search"]

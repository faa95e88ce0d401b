"""What a search is asked for, as it is given, and what that comes to: defaults, names and limits looked up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autocompress.budget import Budget
from autocompress.errors import UsageError
from autocompress.explore.opening.identity import Settings
from autocompress.explore.space.space_file import load_space
from autocompress.hub_request import HubRequest, target_with
from autocompress.machine.cores import cores
from autocompress.measure import check_memory, check_place, device_kind
from autocompress.plugin.loader import PluginSet
from autocompress.plugin.observer import Observer
from autocompress.plugin.task_targets import hub_and_request
from autocompress.profile import load_profile
from autocompress.run import RunRequest
from autocompress.storage.ownership import RUN, own_or_free
from autocompress.task import Task

DEMO = "autocompress.demo.digits:task"
DEFAULT_MINUTES = 15.0
DEMO_MINUTES = 1.5
DEFAULT_WORKERS = 1


@dataclass(frozen=True)
class SearchRequest:
    """The arguments of ``search``, which says what they mean."""

    task: Task | str | None = None
    data: str | Path | None = None
    checkpoint: str | Path | None = None
    budget_ms: float | None = None
    speedup: float | None = None
    max_drop: float | None = None
    max_class_drop: float | None = None
    profile: str = "cpu"
    space: str = "default"
    minutes: float | None = None
    trials: int | None = None
    workers: int | None = None
    no_train: bool = False
    explain: bool = False
    out: str | Path | None = None
    seed: int = 0
    observe: str | Sequence[str | Observer] = ()

    def read(self, plugins: PluginSet, say: Callable[[str], None]) -> RunRequest:
        """With what is left out. say: told what a user should know of it. Raises UsageError for what makes no sense,
        and for what cannot be used here.
        """
        workers = workers_for(self.workers)
        task = named_task(self.task, self.data, self.checkpoint, plugins)
        settings = self._settings(task, plugins, say)
        observers, target = observers_of(self.observe, plugins), DEMO if task is None else task
        return RunRequest(on_its_target(settings, target, plugins), target, workers, observers)

    def _settings(self, task: Task | str | None, plugins: PluginSet, say: Callable[[str], None]) -> Settings:
        budget = Budget(self.budget_ms, self.speedup, self.max_drop, max_class_drop=self.max_class_drop)
        if self.minutes is not None and not 0 < self.minutes < 1e6:
            raise UsageError(f"--minutes must be a number above 0, not {self.minutes:g}")
        if self.trials is not None and self.trials < 1:
            raise UsageError(f"--trials must be at least 1, not {self.trials}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed must be from 0 to 4294967295, not {self.seed}")
        for broken in plugins.broken:
            say(f"warning: {broken}")
        if task is None:
            say("No task given: searching the bundled demo, scikit-learn's handwritten digits (real scans, 8x8).")
        elif isinstance(task, Task):
            say(
                "The task is an object of this process, so candidates are computed "
                "here: a plug-in that crashes ends the search."
            )
        root = default_out(DEMO if task is None else task, say) if self.out is None else Path(self.out)
        profile = load_profile(self.profile)
        return Settings(
            budget=replace(budget, **profile.limits),
            minutes=self.minutes or default_minutes(task),
            trials=self.trials,
            seed=self.seed,
            profile=profile,
            space=load_space(self.space, plugins).model_copy(update={"train": False} if self.no_train else {}),
            out=root,
            explain=self.explain,
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


def out_beside(run: Path, name: str) -> Path:
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

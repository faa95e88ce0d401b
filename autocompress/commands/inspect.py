"""What an engineer reads before a search: where the time goes, which strategies apply, what is sensitive and what is
left alone.
"""

import asyncio
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autocompress.candidate.export import SCOPE
from autocompress.candidate.inspection import Looked
from autocompress.candidate.preparation import Preparation
from autocompress.candidate.sensitivity import MOST_LOST
from autocompress.compute.executor import Executor
from autocompress.compute.in_process import in_process
from autocompress.compute.operations import WorkerOperations
from autocompress.compute.processes import worker_processes
from autocompress.compute.worker import OutOfTime, WorkerConfig
from autocompress.errors import CandidateFailed, UsageError
from autocompress.explore.opening.opening import Opening
from autocompress.explore.opening.reference import open_task
from autocompress.plugin.contract import Stage, StructureStrategy, stages_of
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.profile import HardwareProfile, load_profile
from autocompress.storage.folder import RunFolder
from autocompress.supervisor import Supervisor, Tell, tell_nobody
from autocompress.task import Task

SCORED = 2000
SENSITIVITY_S = 25.0
OTHERS_S = 35.0  # for all else, about: with it a minute
OF_STEP = 0.5  # of the time: no single step after the opening may take more, so that the others have some
OF_OPENING = 0.3  # of the time: when reading and exporting took more, the other exporter is not tried
OF_SCORING = 0.3  # of what is left then, for the reference and its files
FEWEST_OF_SLOW = 64  # examples
SCORED_FILES = 8  # at most, about
CALLS_FOR_FILES = 1000  # about as long as these takes what makes and scores the reference's quantized files
LOOKED_AT_ONCE_S = 1.0  # for what can go: so much is lost where the time is over
OTHER_FILES = "the same weights in other files"


class Limit:
    """How long all of it may take. missed: what there was no time to look at. cut_off: what was begun and ended."""

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._began = clock()
        self.missed: list[str] = []
        self.cut_off: list[str] = []

    @property
    def left_s(self) -> float:
        return max(0.0, self.limit_s - (self._clock() - self._began))

    def is_over(self, what: str) -> bool:
        """Whether it is, before ``what`` is looked at."""
        if self.left_s:
            return False
        self.missed.append(what)
        return True


def inspect_task(
    task: Task | str,
    profile: str,
    tell: Tell = tell_nobody,
    score_on: int = SCORED,
    sensitivity_s: float = SENSITIVITY_S,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Reference score, latency and size; its time by operator; every strategy with its parameters, or why it does not
    apply; the graph variants of the unchanged weights, measured; of each structural strategy which layers it changes
    and how much it leaves to compute at its strongest; how much of each group can go before a point is lost; and why
    other layers are left as they are, with where they are called.

    task: what it is called, which a process of its own opens and computes on, so that whatever takes too long there can
    be ended; an object is computed on here, where nothing can. score_on: validation examples, for each file, fewer of a
    slow model; a search scores on all. sensitivity_s: seconds for what can go, about; the groups that they do not
    suffice for are listed without it. All else takes as long as 35 s or more where reading and exporting the model do:
    what there was no time for is listed, and so is what was cut off. clock: in seconds.
    """
    plugins, hardware = load_plugins(), load_profile(profile)
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        run = RunFolder(Path(folder))
        operations = _operations_for(task, hardware, plugins, run, tell, score_on)
        inspecting = _Inspecting(operations, hardware, plugins, run, tell, Limit(OTHERS_S + sensitivity_s, clock))
        try:
            return asyncio.run(inspecting.all_of_it(sensitivity_s))
        finally:
            operations.kill()  # where somebody interrupts, it still computes
            operations.close()


def _operations_for(
    task: Task | str, profile: HardwareProfile, plugins: PluginSet, run: RunFolder, tell: Tell, score_on: int
) -> WorkerOperations:
    if isinstance(task, Task):
        return in_process(task, profile, plugins, run, supervisor=Supervisor(tell), score_on=score_on)
    config = WorkerConfig(task, profile, run.root, 0, score_on=score_on)
    return worker_processes(
        config,
        run.worker_log,
        lambda text, fraction, worker: tell(text, fraction),
        interrupted=lambda: False,
        note=tell_nobody,
        clock=time.monotonic,
        settled=tell_nobody,
    )


class _Inspecting:
    """One inspection, asked of what computes on the task step by step."""

    def __init__(
        self,
        operations: WorkerOperations,
        profile: HardwareProfile,
        plugins: PluginSet,
        run: RunFolder,
        tell: Tell,
        limit: Limit,
    ) -> None:
        self._operations = operations
        self._profile = profile
        self._plugins = plugins
        self._run = run
        self._tell = tell
        self._limit = limit
        self._warnings: list[str] = []

    @property
    def _computing(self) -> Executor:
        return self._operations.computing

    async def all_of_it(self, sensitivity_s: float) -> dict[str, Any]:
        limit, only = self._limit, list(self._plugins.strategies)  # what saves size alone is measured too, once
        prepared = await self._operations.prepare(None, only, limit_s=math.inf)
        opening, scored = await self._opened(prepared, only)
        self._warnings += [*map(str, self._plugins.broken), *opening.warnings]
        return {
            **reference_found(opening, scored),
            "operators": await self._operators(),
            **strategies_found(opening, self._plugins),
            "unchanged_weights": _unchanged(opening),
            **await self._left_alone(),
            "reach": await self._reach(opening),
            "sensitivity": await self._sensitivity(opening, sensitivity_s),
            "not_looked_at": limit.missed,
            "cut_off": limit.cut_off,
            "limit_s": limit.limit_s,
            "warnings": self._warnings,
        }

    async def _opened(self, prepared: Preparation, only: list[str]) -> tuple[Opening, int]:
        """With as many examples and files as there is time for, and how many examples that is."""
        limit = self._limit
        quick = limit.left_s >= (1 - OF_OPENING) * limit.limit_s
        if not quick:
            limit.missed.append(f"the file of the other exporter than {prepared.exporter}")
        call_s = await self._computing.call("inspect", "call_s")
        calls = OF_SCORING * limit.left_s / SCORED_FILES / call_s
        scored = await self._computing.call("score_on", max(FEWEST_OF_SLOW, int(calls * self._profile.batch)))
        rewriting = call_s * CALLS_FOR_FILES <= limit.left_s
        if not rewriting:
            limit.missed.append(OTHER_FILES)
        if quick or rewriting:
            limit_s = limit.left_s
            try:
                return await self._open(prepared, self._rewriting(only, rewriting), quick, limit_s), scored
            except (OutOfTime, UsageError) as error:
                if not isinstance(error if isinstance(error, OutOfTime) else error.__cause__, OutOfTime):
                    raise
                self._was_cut_off(OTHER_FILES, limit_s)
        return await self._open(prepared, self._rewriting(only, False), False, math.inf), scored

    def _rewriting(self, only: list[str], rewriting: bool) -> list[str]:
        """The strategies in use, with those that rewrite files or without."""
        return [name for name in only if rewriting or Stage.GRAPH not in stages_of(self._plugins.strategy(name))]

    async def _open(self, prepared: Preparation, only: list[str], compare: bool, limit_s: float) -> Opening:
        operations, run, profile = self._operations, self._run, self._profile
        opened = open_task(operations, prepared, run, profile, 0, only, compare_exporters=compare, limit_s=limit_s)
        return (await opened)[0]

    async def _asked(self, who: str, what: str, question: str, *args: Any) -> Any:
        """What is answered within the time that a step may take; when that is over or code of a plug-in fails, nothing,
        and it is said.
        """
        limit_s = min(self._limit.left_s, OF_STEP * self._limit.limit_s)
        try:
            return await self._computing.call("inspect", question, *args, limit_s=limit_s)
        except OutOfTime:
            self._was_cut_off(f"{who}, {what}", limit_s)
        except CandidateFailed as error:
            reason = error.reason.removesuffix(f"; see {self._run.worker_log}")  # which is gone by then
            self._warnings.append(f"{who} cannot tell {what}: {reason}")
        return None

    def _was_cut_off(self, what: str, limit_s: float) -> None:
        twice_s = 2 * self._limit.limit_s - OTHERS_S
        self._limit.cut_off.append(
            f"{what}: cut off after {limit_s:.0f} s; --seconds {twice_s:.0f} leaves it twice as long"
        )

    async def _operators(self) -> list[dict[str, Any]]:
        """The reference's nodes, slowest first; nothing when the target does not tell."""
        if self._limit.is_over("its time by operator"):
            return []
        self._tell("time by operator", None)
        runtime = self._plugins.runtime_of(self._profile)
        rows = await self._asked(runtime.name, "time by operator", "operator_times")
        slowest_first = sorted(rows or (), key=lambda row: -row.ms)
        return [{**asdict(row), "name": row.name.removeprefix(SCOPE)} for row in slowest_first]

    async def _left_alone(self) -> dict[str, Any]:
        """``left_alone``: for each strategy that tells, the parts that it leaves as they are, and why. ``places``:
        where in the code each of them is called.
        """
        found: dict[str, dict[str, str]] = {}
        for name in sorted(self._plugins.strategies):
            if self._limit.is_over(f"what {name} leaves alone"):
                continue
            self._tell(f"what is left alone: {name}", None)
            if reasons := await self._asked(name, "what it leaves alone", "left_alone", name):
                found[name] = reasons
        parts = sorted({part for reasons in found.values() for part in reasons})
        if not parts or self._limit.is_over("where layers are called"):
            return {"left_alone": found, "places": {}}
        places = await self._asked("the model", "where its layers are called", "places", parts)
        return {"left_alone": found, "places": places or {}}

    async def _reach(self, opening: Opening) -> dict[str, dict[str, Any]]:
        """Of each structural strategy that may save time what it can do here, at its strongest."""
        found = {}
        exporter, macs = opening.prepared.exporter, opening.reference.macs
        for strategy in opening.applicable:
            if strategy.size_only is not None or not {Stage.BUILD, Stage.STRUCTURE} & set(strategy.stages):
                continue
            if self._limit.is_over(f"what {strategy.name} leaves to compute"):
                continue
            self._tell(f"what is left: {strategy.name}", None)
            what = "what it leaves to compute"
            if told := await self._asked(strategy.name, what, "reach", strategy, exporter, macs):
                found[strategy.name] = asdict(told)
        return found

    async def _sensitivity(self, opening: Opening, within_s: float) -> dict[str, dict[str, Any]]:
        """For each structural strategy that tells of groups, how much of each can go. The strategies with most groups
        come first, and each has as much of the time as it has groups.
        """
        groups: dict[str, int] = {}
        for applicable in opening.applicable:
            name = applicable.name
            if not isinstance(self._plugins.strategy(name), StructureStrategy):
                continue
            if self._limit.is_over(f"the groups of {name}"):
                continue
            self._tell(f"groups: {name}", None)
            if told := await self._asked(name, "its groups", "groups", name):
                groups[name] = told
        within_s = min(within_s, self._limit.left_s)
        ends_s, others = self._limit.left_s - within_s, sum(groups.values())
        found: dict[str, dict[str, Any]] = {}
        for name, own in sorted(groups.items(), key=lambda item: -item[1]):
            share_s = (self._limit.left_s - ends_s) * own / others
            others -= own
            looked = await self._looked(name, share_s)
            if looked is not None and looked.groups:
                rows = [asdict(row) for row in looked.groups]
                found[name] = {"lost": MOST_LOST, "scored": looked.scored, "groups": rows}
        return found

    async def _looked(self, strategy: str, within_s: float) -> Looked | None:
        """A little at a time: what was found stays where the next takes too long."""
        ends_s, looked = self._limit.left_s - within_s, None
        while looked is None or not looked.is_done:
            at_once_s = min(LOOKED_AT_ONCE_S, within_s, max(0.0, self._limit.left_s - ends_s))
            if looked is not None and not at_once_s:
                break
            further = await self._asked(strategy, "how much can go", "sensitivity", strategy, at_once_s)
            if further is None:
                break
            looked = further
            if not within_s:
                break
        return looked


def strategies_found(opening: Opening, plugins: PluginSet) -> dict[str, Any]:
    """Which strategies apply, with what they offer, and why the others do not."""
    return {
        "applies": {
            a.name: {
                "summary": plugins.strategy(a.name).summary,
                "parameters": {p.name: list(p.choices) for p in a.parameters},
                "variants": [dict(v) for v in a.variants],
                "size_only": a.size_only,
            }
            for a in opening.applicable
        },
        "does_not_apply": {r.strategy: r.reason for r in opening.refused},
    }


def reference_found(opening: Opening, scored: int) -> dict[str, Any]:
    """Of the unchanged model. scored: validation examples that its score is of."""
    reference = opening.reference
    score = reference.score.shown(opening.scale.maximize)
    return {
        "task": opening.name,
        "score": {opening.metric: score.val, "low": score.val_low, "high": score.val_high},
        "maximize": opening.scale.maximize,
        "latency_ms": {
            "p50": reference.latency.p50,
            "p90": reference.latency.p90,
            "quiet": reference.latency.quiet,
        },
        "params": reference.params,
        "macs": reference.macs,
        "size_bytes": reference.size_bytes,
        "compressed_bytes": reference.compressed_bytes,
        "exporter": opening.prepared.exporter,
        "export_note": opening.prepared.export_note,
        "examples": {
            "train": opening.prepared.train_examples,
            "val": opening.prepared.val_examples,
            "test": opening.prepared.test_examples,
        },
        "scored": scored,
    }


def _unchanged(opening: Opening) -> dict[str, dict[str, Any]]:
    """The reference's graph variants: what quantization alone gives here."""
    measured = {
        str(e.recipe): {
            opening.metric: e.score.shown(opening.scale.maximize).val,
            "speedup": 1 / e.latency.ratio,
            "size_bytes": e.size_bytes,
            "compressed_bytes": e.compressed_bytes,
        }
        for e in opening.reference_family.evaluations
    }
    slower = {str(s.recipe): {"speedup": 1 / s.ratio, "left_out": s.reason} for s in opening.reference_family.slower}
    failed = {str(recipe): {"left_out": reason} for recipe, _, reason in opening.reference_family.failed}
    return {**measured, **slower, **failed}

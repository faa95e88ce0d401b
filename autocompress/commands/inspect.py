"""What an engineer reads before a search: where the time goes, which strategies apply, what is sensitive and what is
left alone.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from autocompress.candidate.export import SCOPE
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.places import places_of
from autocompress.candidate.reach import reach_of
from autocompress.candidate.sensitivity import MOST_LOST, group_sensitivities, unchanged_scored
from autocompress.candidate.structure import blamed_on
from autocompress.compute.in_process import opened_in_process
from autocompress.errors import CandidateFailed
from autocompress.explore.opening.opening import Opening
from autocompress.explore.opening.reference import open_task
from autocompress.measure import operators_of
from autocompress.plain_model import scripted_part
from autocompress.plugin.contract import Context, ShrinkableGroup, Stage, Strategy, StructureStrategy, stages_of
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.plugin.task_targets import task_of
from autocompress.profile import load_profile
from autocompress.storage.folder import RunFolder
from autocompress.supervisor import Supervisor, Tell, tell_nobody

SCORED = 2000
SENSITIVITY_S = 25.0
OTHERS_S = 35.0  # for all else, about: with it a minute
OF_OPENING = 0.3  # of the time: when reading and exporting took more, the other exporter is not tried
OF_SCORING = 0.3  # of what is left then, for the reference and its files
FEWEST_OF_SLOW = 64  # examples
SCORED_FILES = 8  # at most, about
SHORTEST_CALL_S = 1e-6
CALLS_FOR_FILES = 1000  # about as long as these takes what makes and scores the reference's quantized files
T = TypeVar("T")


class Limit:
    """How long all of it may take. missed: what there was no time to look at."""

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._began = clock()
        self.missed: list[str] = []

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
    target: str,
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

    score_on: validation examples, for each file, fewer of a slow model; a search scores on all. sensitivity_s: seconds
    for what can go, about; the groups that they do not suffice for are listed without it. All else takes as long as
    35 s or more where reading and exporting the model do: what there was no time for is listed. clock: in seconds.
    """
    limit = Limit(OTHERS_S + sensitivity_s, clock)
    plugins = load_plugins()
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        run, hardware, supervisor = RunFolder(Path(folder)), load_profile(profile), Supervisor(tell)
        only = list(plugins.strategies)  # what saves size alone is measured too, once
        task = task_of(target, plugins)
        here = opened_in_process(task, hardware, plugins, run, only, supervisor=supervisor, score_on=score_on)
        quick = limit.left_s >= (1 - OF_OPENING) * limit.limit_s
        if not quick:
            limit.missed.append(f"the file of the other exporter than {here.prepared.exporter}")
        call_s = _call_s(here.computation.opened, clock)
        here.computation.opened = _scored_in_time(here.computation.opened, call_s, limit)
        if call_s * CALLS_FOR_FILES > limit.left_s:
            only = [name for name in only if Stage.GRAPH not in stages_of(plugins.strategy(name))]
            limit.missed.append("the same weights in other files")
        opening, _ = asyncio.run(
            open_task(here.operations, here.prepared, run, hardware, 0, only, compare_exporters=quick)
        )
        opened = here.computation.opened
        warnings = [*map(str, plugins.broken), *opening.warnings]
        return {
            **reference_found(opening, len(opened.val)),
            "operators": _operators(opened, limit, warnings),
            **strategies_found(opening, plugins),
            "unchanged_weights": _unchanged(opening),
            **_left_alone(opened, limit, warnings),
            "reach": _reach(opened, opening, limit, warnings),
            "sensitivity": _sensitivity(opened, opening, sensitivity_s, limit, warnings),
            "not_looked_at": limit.missed,
            "limit_s": limit.limit_s,
            "warnings": warnings,
        }


def _call_s(opened: OpenTask, clock: Callable[[], float]) -> float:
    """Seconds of a call of the reference."""
    session, feed = opened.open(opened.folder.reference), opened.feeds[0]
    began = clock()
    session.run(feed)
    return max(clock() - began, SHORTEST_CALL_S)


def _scored_in_time(opened: OpenTask, call_s: float, limit: Limit) -> OpenTask:
    """With so many validation examples that the reference and its files can be scored in their share of the time."""
    calls = OF_SCORING * limit.left_s / SCORED_FILES / call_s
    count = max(FEWEST_OF_SLOW, int(calls * opened.profile.batch))
    return replace(opened, val=opened.val.sampled(count)) if count < len(opened.val) else opened


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


def _operators(opened: OpenTask, limit: Limit, warnings: list[str]) -> list[dict[str, Any]]:
    """The reference's nodes, slowest first; nothing when the target does not tell."""
    if limit.is_over("its time by operator"):
        return []
    opened.supervisor.tell("time by operator", None)
    runtime = opened.plugins.runtime_of(opened.profile)
    rows = _asked(
        runtime.name,
        "time by operator",
        lambda: operators_of(runtime, opened.profile, opened.folder.reference, opened.feeds),
        warnings,
    )
    slowest_first = sorted(rows or (), key=lambda row: -row.ms)
    return [{**asdict(row), "name": row.name.removeprefix(SCOPE)} for row in slowest_first]


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


def _reach(opened: OpenTask, opening: Opening, limit: Limit, warnings: list[str]) -> dict[str, dict[str, Any]]:
    """Of each structural strategy that may save time what it can do here, at its strongest."""
    found = {}
    exporter, macs = opening.prepared.exporter, opening.reference.macs
    for strategy in opening.applicable:
        if strategy.size_only is not None or not {Stage.BUILD, Stage.STRUCTURE} & set(strategy.stages):
            continue
        if limit.is_over(f"what {strategy.name} leaves to compute"):
            continue
        opened.supervisor.tell(f"what is left: {strategy.name}", None)
        ask = partial(reach_of, opened, strategy, exporter, macs)
        if told := _asked(strategy.name, "what it leaves to compute", ask, warnings):
            found[strategy.name] = asdict(told)
    return found


def _sensitivity(
    opened: OpenTask, opening: Opening, within_s: float, limit: Limit, warnings: list[str]
) -> dict[str, dict[str, Any]]:
    """For each structural strategy that tells of groups, how much of each can go. The strategies with most groups come
    first, and each has as much of the time as it has groups.
    """
    groups: dict[str, list[ShrinkableGroup]] = {}
    for applicable in opening.applicable:
        strategy = opened.plugins.strategy(applicable.name)
        if isinstance(strategy, StructureStrategy):
            if limit.is_over(f"the groups of {applicable.name}"):
                continue
            opened.supervisor.tell(f"groups: {applicable.name}", None)
            told = _asked(applicable.name, "its groups", partial(_groups, strategy, opened.context), warnings)
            if told:
                groups[applicable.name] = told
    within_s = min(within_s, limit.left_s)
    found: dict[str, dict[str, Any]] = {}
    ends, others = time.monotonic() + within_s, sum(map(len, groups.values()))
    for name, own in sorted(groups.items(), key=lambda item: -len(item[1])):
        left_s = max(ends - time.monotonic(), min(within_s, 1.0))
        measure = partial(group_sensitivities, opened, name, own, left_s * len(own) / others)
        others -= len(own)
        rows = _asked(name, "how much can go", measure, warnings)
        if rows:
            scored = len(unchanged_scored(opened).examples)
            found[name] = {"lost": MOST_LOST, "scored": scored, "groups": [asdict(row) for row in rows]}
    return found


def _groups(strategy: StructureStrategy, context: Context) -> list[ShrinkableGroup]:
    return list(strategy.shrinkable_groups(context))


def _left_alone(opened: OpenTask, limit: Limit, warnings: list[str]) -> dict[str, Any]:
    """``left_alone``: for each strategy that tells, the parts that it leaves as they are, and why. ``places``: where in
    the code each of them is called.
    """
    found: dict[str, dict[str, str]] = {}
    model = opened.context.model
    if scripted_part(model) is not None:
        return {"left_alone": found, "places": {}}  # all of it, which each strategy says
    for name, strategy in sorted(opened.plugins.strategies.items()):
        if limit.is_over(f"what {name} leaves alone"):
            continue
        opened.supervisor.tell(f"what is left alone: {name}", None)
        reasons = _asked(name, "what it leaves alone", partial(_reasons, strategy, opened.context), warnings)
        if reasons:
            found[name] = reasons
    parts = {part for reasons in found.values() for part in reasons}
    return {"left_alone": found, "places": places_of(model, parts, opened.context.example_inputs)}


def _reasons(strategy: Strategy, context: Context) -> dict[str, str]:
    return dict(strategy.left_alone(context))


def _asked(who: str, what: str, ask: Callable[[], T], warnings: list[str]) -> T | None:
    """What a plug-in answers; when its code fails, nothing and a warning."""
    try:
        with blamed_on(who):
            return ask()
    except CandidateFailed as error:
        warnings.append(f"{who} cannot tell {what}: {error.reason}")
        return None

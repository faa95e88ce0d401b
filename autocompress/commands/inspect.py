"""What an engineer reads before a search: where the time goes, which strategies apply, what is sensitive and what is
left alone.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from autocompress.candidate.export import SCOPE
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.sensitivity import MOST_LOST, group_sensitivities, unchanged_scored
from autocompress.candidate.structure import blamed_on
from autocompress.compute.in_process import opened_in_process
from autocompress.errors import CandidateFailed
from autocompress.explore.opening.opening import Opening
from autocompress.explore.opening.reference import open_task
from autocompress.measure import operators_of
from autocompress.plain_model import scripted_part
from autocompress.plugin.contract import Context, ShrinkableGroup, Strategy, StructureStrategy
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.plugin.task_targets import task_of
from autocompress.profile import load_profile
from autocompress.storage.folder import RunFolder
from autocompress.supervisor import Supervisor, Tell, tell_nobody

SCORED = 2000
SENSITIVITY_S = 25.0
T = TypeVar("T")


def inspect_task(
    target: str,
    profile: str,
    tell: Tell = tell_nobody,
    score_on: int = SCORED,
    sensitivity_s: float = SENSITIVITY_S,
) -> dict[str, Any]:
    """Reference score, latency and size; its time by operator; every strategy with its parameters, or why it does not
    apply; the graph variants of the unchanged weights, measured; how much of each group can go before a point is lost,
    and why other layers are left as they are. score_on: validation examples, for each file; a search scores on all.
    sensitivity_s: seconds for what can go, about; the groups that they do not suffice for are listed without it.
    """
    plugins = load_plugins()
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        run, hardware, supervisor = RunFolder(Path(folder)), load_profile(profile), Supervisor(tell)
        only = list(plugins.strategies)  # what saves size alone is measured too, once
        task = task_of(target, plugins)
        here = opened_in_process(task, hardware, plugins, run, only, supervisor=supervisor, score_on=score_on)
        opening, _ = asyncio.run(open_task(here.operations, here.prepared, run, hardware, 0, only))
        opened = here.computation.opened
        warnings = [*map(str, plugins.broken), *opening.warnings]
        return {
            **reference_found(opening, len(opened.val)),
            "operators": _operators(opened, warnings),
            **strategies_found(opening, plugins),
            "unchanged_weights": _unchanged(opening),
            "sensitivity": _sensitivity(opened, opening, sensitivity_s, warnings),
            "left_alone": _left_alone(opened, warnings),
            "warnings": warnings,
        }


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


def _operators(opened: OpenTask, warnings: list[str]) -> list[dict[str, Any]]:
    """The reference's nodes, slowest first; nothing when the target does not tell."""
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


def _sensitivity(opened: OpenTask, opening: Opening, within_s: float, warnings: list[str]) -> dict[str, dict[str, Any]]:
    """For each structural strategy that tells of groups, how much of each can go. The strategies with most groups come
    first, and each has as much of the time as it has groups.
    """
    groups: dict[str, list[ShrinkableGroup]] = {}
    for applicable in opening.applicable:
        strategy = opened.plugins.strategy(applicable.name)
        if isinstance(strategy, StructureStrategy):
            opened.supervisor.tell(f"groups: {applicable.name}", None)
            told = _asked(applicable.name, "its groups", partial(_groups, strategy, opened.context), warnings)
            if told:
                groups[applicable.name] = told
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


def _left_alone(opened: OpenTask, warnings: list[str]) -> dict[str, dict[str, str]]:
    """For each strategy that tells, the parts that it leaves as they are, and why."""
    found: dict[str, dict[str, str]] = {}
    if scripted_part(opened.context.model) is not None:
        return found  # all of it, which each strategy says
    for name, strategy in sorted(opened.plugins.strategies.items()):
        opened.supervisor.tell(f"what is left alone: {name}", None)
        reasons = _asked(name, "what it leaves alone", partial(_reasons, strategy, opened.context), warnings)
        if reasons:
            found[name] = reasons
    return found


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

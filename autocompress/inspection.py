"""What an engineer reads before a search: where the time goes, which strategies apply, what is sensitive."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autocompress.candidate.opening import Opening, open_bench
from autocompress.candidate.pipeline import Bench, Tell
from autocompress.candidate.structure import blamed_on
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import OperatorTime, StructureStrategy
from autocompress.plugin.loader import load_plugins
from autocompress.profile import load_profile
from autocompress.run.folder import RunFolder
from autocompress.task import load_task


def inspect_task(target: str, profile: str, tell: Tell = lambda text, fraction: None) -> dict[str, Any]:
    """Reference score, latency and size; its time by operator; every strategy with its parameters, or why it does not
    apply; the graph variants of the unchanged weights, measured; the loss that each prunable group costs.
    """
    plugins = load_plugins()
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        bench, opening = open_bench(
            load_task(target),
            load_profile(profile),
            plugins,
            RunFolder(Path(folder)),
            tell=tell,
            only=plugins.strategies,  # what saves size alone is measured too, once
        )
        tell("time by operator", None)
        return {
            **_reference(opening),
            "operators": [asdict(row) for row in _operators(bench)],
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
            "unchanged_weights": _unchanged(opening),
            "sensitivity": _sensitivity(bench, opening),
            "warnings": list(opening.warnings),
        }


def _reference(opening: Opening) -> dict[str, Any]:
    reference = opening.reference
    return {
        "task": opening.name,
        "score": {
            opening.metric: reference.score.val,
            "low": reference.score.val_low,
            "high": reference.score.val_high,
        },
        "latency_ms": {
            "p50": reference.latency.p50,
            "p90": reference.latency.p90,
            "reliable": reference.latency.reliable,
        },
        "params": reference.params,
        "macs": reference.macs,
        "size_bytes": reference.size_bytes,
        "compressed_bytes": reference.compressed_bytes,
        "exporter": opening.exporter,
        "export_note": opening.export_note,
        "examples": {"train": opening.train_examples, "val": opening.val_examples, "test": opening.test_examples},
    }


def _operators(bench: Bench) -> Sequence[OperatorTime]:
    """The reference's nodes, slowest first; nothing when the runtime does not tell."""
    runtime = bench.plugins.runtime(bench.profile.runtime)
    rows = runtime.operators(bench.folder.reference, bench.profile, bench.feeds) or ()
    return sorted(rows, key=lambda row: -row.ms)


def _unchanged(opening: Opening) -> dict[str, dict[str, Any]]:
    """The reference's graph variants: what quantization alone gives here."""
    measured = {
        str(e.recipe): {
            opening.metric: e.score.val,
            "speedup": 1 / e.latency.ratio,
            "size_bytes": e.size_bytes,
            "compressed_bytes": e.compressed_bytes,
        }
        for e in opening.reference_family.evaluations
    }
    slower = {str(s.recipe): {"left_out": s.reason} for s in opening.reference_family.slower}
    failed = {str(recipe): {"left_out": reason} for recipe, _, reason in opening.reference_family.failed}
    return {**measured, **slower, **failed}


def _sensitivity(bench: Bench, opening: Opening) -> dict[str, list[dict[str, Any]]]:
    """For each structural strategy the groups it can shrink, most sensitive first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for applicable in opening.applicable:
        strategy = bench.plugins.strategy(applicable.name)
        if isinstance(strategy, StructureStrategy):
            bench.tell(f"sensitivity: {applicable.name}", None)
            try:
                with blamed_on(applicable.name):
                    rows = [asdict(row) for row in strategy.sensitivity(bench.context)]
            except CandidateFailed:
                continue  # it is shown of those that can tell
            if rows:
                found[applicable.name] = rows
    return found

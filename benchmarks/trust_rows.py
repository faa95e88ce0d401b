"""What a row of benchmarks/trust_searches.py says: of a front.json, of later sessions, and of many rows together."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from autocompress.storage.front import candidate_of

Row = dict[str, Any]
Document = dict[str, Any]

KEY = "mode", "task", "minutes", "state", "budget", "speedup", "seed"  # what tells one row from another
NOT_COMPUTING = (
    "measure",
    "measure_beside",
    "wait",
    "driver",
)  # of spent_seconds: what a worker waits for, or nobody's work
CLOSE = 0.03  # how far a later ratio may be from the one that front.json says
MAX_DROP = 1.0  # points


def key_of(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in KEY)


def of_search(document: Document, workers: int = 1) -> Row:
    """What one search says of itself. measuring_alone: the share of time in which something was
    measured and no worker computed. idle: that of the workers' time in which they computed nothing. left_off:
    points that nothing dominates by the numbers that are reported, and that are not on the front; those that were
    scored on a sample alone are there for comparison, and what lost more than half of the reference's lead is on none.
    """
    candidates, spent, wall = document["candidates"], document["spent_seconds"], document["wall_seconds"]
    chosen = candidate_of(document, document["recommended"])
    whole = [c for c in candidates if not c["score"].get("sampled") and c.get("keeps_lead") is not False]
    points = [(c["score"]["val"], c["latency_ms"]["ratio"]) for c in whole]
    best = {p for p in points if not any(o[0] >= p[0] and o[1] <= p[1] and o != p for o in points)}
    shown = {p for p, c in zip(points, whole, strict=True) if c["on_front"]}
    computing = sum(seconds for name, seconds in spent.items() if name not in NOT_COMPUTING)
    return {
        "measuring": (spent.get("measure", 0.0) + spent.get("measure_beside", 0.0)) / wall,
        "measuring_alone": spent.get("measure", 0.0) / wall,
        "idle": 1 - computing / (workers * wall),
        "wall_seconds": wall,
        "files": len(candidates),
        "never_quiet": sum(not c["latency_ms"]["quiet_sessions"] for c in candidates),
        "left_off": len(best - shown),
        "sessions": sum(c["latency_ms"]["sessions"] for c in candidates),
        "reference_ms": document["reference"]["latency_ms"]["statistic"],
        "recommended": None if chosen is None else chosen["latency_ms"]["ratio"],
        "val_loss": None if chosen is None else chosen["loss"]["points"],
        **{name: verdict and verdict["answer"] for name, verdict in (chosen or {}).get("verdicts", {}).items()},
    }


def of_sessions(document: Document, sessions: Sequence[Row]) -> Row:
    """How what a run says of its recommended model stands to later sessions."""
    chosen = candidate_of(document, document["recommended"])
    assert chosen is not None
    said, budget = chosen["latency_ms"]["ratio"], document["budget"]
    kept = [
        (not budget["speedup"] or s["ratio"] <= 1 / budget["speedup"])
        and (not budget["latency_ms"] or s["statistic"] <= budget["latency_ms"])
        for s in sessions
    ]
    return {
        "times": len(sessions),
        "kept": sum(kept),
        "within_3_percent": sum(abs(s["ratio"] / said - 1) <= CLOSE for s in sessions),
        "ratios": [round(s["ratio"] / said, 4) for s in sessions],
        "busy": sum(s["busy"] for s in sessions),
    }


def of_test(document: Document, paired_error: float | None = None) -> Row:
    """Points lost on the test split. paired_error: of the difference on the same examples, in points; without it the
    error is as if both scores were of different examples, as many as the validation split has, which is too large.
    """
    chosen = candidate_of(document, document["recommended"])
    if chosen is None or chosen["score"]["test"] is None:
        return {}
    reference, score = document["reference"]["score"], chosen["score"]
    loss, error = 100 * (reference["test"] - score["test"]), paired_error
    if error is None:
        error = 100 * math.hypot(*((s["val_high"] - s["val_low"]) / 2 / 1.96 for s in (reference, score)))
    return {
        "test_loss": loss,
        "test_error": error,
        "paired": paired_error is not None,
        "loses_more": loss > MAX_DROP + error,
    }


def is_done(row: Row, mode: str) -> bool:
    """Whether nothing is left to do for a row: what was recommended has its later sessions, or its test."""
    return mode == "share" or row["recommended"] is None or {"hold": "times", "drop": "tested"}[mode] in row


def summary(rows: Iterable[Row]) -> list[Row]:
    """One line for each mode and state: what the table says."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.get("mode") in SUMMARIES:
            groups.setdefault((row["mode"], row["state"]), []).append(row)
    return [{"mode": mode, "state": state, **SUMMARIES[mode](own)} for (mode, state), own in groups.items()]


def _share(rows: list[Row]) -> Row:
    return {
        "searches": len(rows),
        "files": sum(row["files"] for row in rows),
        "never_quiet": sum(row["never_quiet"] for row in rows),
        "left_off": sum(row["left_off"] for row in rows),
        "most_measuring": max(row["measuring"] for row in rows),
        "most_measuring_alone": max(row.get("measuring_alone", row["measuring"]) for row in rows),
        "most_idle": max(row["idle"] for row in rows),
    }


def _hold(rows: list[Row]) -> Row:
    """all_kept: models that kept the budget in each of their sessions. met: models that a verdict says so of."""
    again = [row for row in rows if "times" in row]
    return {
        "searches": len(rows),
        "nothing_recommended": sum(row["recommended"] is None for row in rows),
        "models": len(again),
        "met": sum(row["latency"] == "met" for row in again),
        "all_kept": sum(row["kept"] == row["times"] for row in again),
        "sessions": sum(row["times"] for row in again),
        "kept": sum(row["kept"] for row in again),
        "within_3_percent": sum(row["within_3_percent"] for row in again),
    }


def _drop(rows: list[Row]) -> Row:
    """loses_more: of the models that are said to lose no more than may be lost, those that do on the test split, by
    more than one standard error.
    """
    met = [row for row in rows if row.get("drop") == "met"]
    answers = Counter(row["drop"] for row in rows if row["recommended"] is not None)
    return {
        "searches": len(rows),
        "nothing_recommended": sum(row["recommended"] is None for row in rows),
        **dict(sorted(answers.items())),
        "tested": sum("test_loss" in row for row in met),
        "loses_more": sum(row.get("loses_more", False) for row in met),
    }


SUMMARIES = {"share": _share, "hold": _hold, "drop": _drop}

"""The candidates of ``front.json`` as the points of a report: which are shown, and each as texts."""

import re
from collections.abc import Mapping
from typing import Any

from autocompress.report import explain
from autocompress.score_scale import ScoreScale

Shown = dict[str, Any]  # a candidate of front.json
PNG_LETTERS = re.compile(r"[A-Za-z0-9+/]+={0,2}")  # of base64


def points_of(document: dict[str, Any]) -> list[Shown]:
    """Every candidate, fastest first, with ``ms``, ``role`` (recommended, nearest or none) and ``is_reference``."""
    reference = document["reference"]
    candidates: list[Shown] = document["candidates"]
    if all(c["artifact"] != reference["artifact"] for c in candidates):
        candidates = [{**reference, "id": None, "recipe": [], "feasible": True, "on_front": False}, *candidates]
    role = "recommended" if document["recommended"] else "nearest"
    points = [
        {
            **c,
            "ms": explain.statistic_ms(c, document),
            "role": role if c["id"] and c["id"] == document[role] else "",
            "is_reference": c["artifact"] == reference["artifact"],
        }
        for c in candidates
    ]
    return sorted(points, key=lambda p: p["ms"])


def listed(points: list[Shown]) -> list[Shown]:
    return [p for p in points if p["on_front"] or p["role"] or p["is_reference"]]


def outside(document: dict[str, Any]) -> str:
    bounded = document["budget"]["latency_ms"] or document["budget"]["speedup"]
    return "over the budget, or its score is lost" if bounded else "loses too much"


def unmet(p: Shown, document: dict[str, Any]) -> str:
    """What a file that cannot be recommended misses, or may miss."""
    answers = explain.answers(p)
    if p["score"].get("sampled") and "not met" not in answers:
        return "scored on a sample"
    if "not met" in answers or "undecided" not in answers:
        return outside(document)
    return "undecided"


def row_of(p: Shown, document: dict[str, Any]) -> dict[str, Any]:
    """One point as the texts that the table and the hover share."""
    scale, score, latency = ScoreScale.of(document), p["score"], p["latency_ms"]
    tags = [p["role"], "reference" if p["is_reference"] else "", "" if p["feasible"] else unmet(p, document)]
    alone = "another speed than files like it" if p.get("stands_alone") else ""
    return {
        "role": p["role"],
        "tags": [t for t in (*tags, "" if explain.is_quiet(p) else "timed on a busy machine", alone) if t],
        "name": explain.techniques(p),
        "val": scale.text(score["val"]),
        "interval": _interval(score, scale),
        "test": scale.text(score["test"]),
        "p50": shown_digits(explain.shown_ms(p, document, "p50")),
        "p90": shown_digits(explain.shown_ms(p, document, "p90")),
        "speedup": f"{1 / latency['ratio']:.2f}×",
        "size": f"{_amount(p['size_bytes'])}B",
        "params": _amount(p["params"]),
        "macs": _amount(p["macs"]),
        "precision": p.get("precision") or "-",
        "steps": explain.steps(p),
    }


def group_tables(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What was lost in each class or group, and by the length of examples where it is known: as texts, what lost most
    first.
    """
    scale, found = ScoreScale.of(document), (document.get("by_class"), (document.get("changed") or {}).get("by_length"))
    with_rows = [of_one for of_one in found if of_one and of_one["rows"]]
    return [{"by": of_one["by"], "rows": _group_rows(of_one["rows"], scale)} for of_one in with_rows]


def example_rows(document: dict[str, Any], pictures: Mapping[int, str]) -> list[dict[str, str]]:
    """The examples that changed most, as texts. pictures: PNG in base64, by the number of the example."""
    scale = ScoreScale.of(document)
    return [
        {
            "number": f"{int(example['number']):,}",
            "change": scale.signed(example["loss"]["points"]),
            "picture": picture if PNG_LETTERS.fullmatch(picture := pictures.get(example["number"], "")) else "",
            **{name: str(example[name]) for name in ("target", "reference", "own")},
        }
        for example in (document.get("changed") or {"most": []})["most"]
    ]


def _group_rows(rows: list[dict[str, Any]], scale: ScoreScale) -> list[dict[str, Any]]:
    return [
        {
            "name": row["name"],
            "examples": f"{row['examples']:,}",
            "reference": scale.text(row["reference"]),
            "score": scale.text(row["score"]),
            "change": scale.signed(row["loss"]["points"]),
            "error": scale.half_width(row["loss"]["error"]),
            "surely": row["surely"],
        }
        for row in rows
    ]


def _interval(score: dict[str, Any], scale: ScoreScale) -> str:
    low, high = (scale.text(score[end]) for end in ("val_low", "val_high"))
    sampled = score.get("sampled")
    return f"{low} – {high}" + (f", from {sampled:,} examples" if sampled else "")


def shown_digits(value: float) -> str:
    """Three digits, which is what a timing is good for, zeros included so that a column reads evenly."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def _amount(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{shown_digits(value / size)} {unit}"
    return f"{value:g} "

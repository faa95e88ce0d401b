"""The HTML page that compares runs: their fronts in one chart where they may share one, and what differs."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from autocompress.report import explain
from autocompress.report.canvas import (
    AXIS,
    as_json,
    bars,
    escaped,
    hover_text,
    limit_line,
    log_axis,
    new_figure,
    staircase,
)
from autocompress.report.chart import score_axis
from autocompress.report.page import write_page
from autocompress.report.points import Shown, points_of, row_of
from autocompress.report.readable import readable
from autocompress.report.runs import ReportedRun
from autocompress.score_scale import POINTS, ScoreScale
from autocompress.storage.front import REPORT

COMPARISON = "comparison.html"
COLORS = tuple(f"var(--run{number})" for number in range(1, 7))
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


def write_comparison(runs: Sequence[ReportedRun], comparison: dict[str, Any], path: Path) -> None:
    """comparison: what ``compare_runs`` says of them. Raises AutocompressError when ``path`` cannot be written or is a
    page of somebody else's.
    """
    write_page(
        "comparison.html.j2",
        path,
        comparison=comparison,
        reports=[_address(run.root / REPORT, path.parent) for run in runs],
        figure=fronts_json(runs, comparison) if comparison["score_axis"] else None,
    )


def _address(report: Path, beside: Path) -> str | None:
    """Of a run's own report, where there is one."""
    return quote(Path(os.path.relpath(report.resolve(), beside.resolve())).as_posix()) if report.is_file() else None


def fronts_json(runs: Sequence[ReportedRun], comparison: dict[str, Any]) -> str:
    """The front of each run, with its recommended file, reference and budget, on the axes that they may share."""
    figure, shown, in_ms = new_figure(), [], comparison["latency_axis"] == "ms"
    documents = [readable(run.document)[0] for run in runs]
    axis = _ScoreAxis(comparison["score_axis"] == "change", ScoreScale.of(documents[0]))
    for number, (run, document) in enumerate(zip(runs, documents, strict=True)):
        color, symbol = COLORS[number % len(COLORS)], SYMBOLS[number % len(SYMBOLS)]
        points, reference = points_of(document), document["reference"]
        front = [p for p in points if p["on_front"]]
        groups = (
            (run.name, front, {"symbol": symbol, "size": 8}, {"mode": "lines+markers", "line": staircase(color)}),
            *(
                (f"{role}, {run.name}", own, {"symbol": f"{symbol}-open", "size": size, "line": {"width": 3}}, {})
                for role, own, size in (
                    ("reference", [p for p in points if p["is_reference"]], 10),
                    *((p["role"], [p], 18) for p in points if p["role"]),
                )
            ),
        )
        for name, own, marker, more in groups:
            times = [p["ms"] if in_ms else p["latency_ms"]["ratio"] for p in own]
            low, values, high = (axis.values(own, reference, key) for key in ("val_low", "val", "val_high"))
            figure.add_scatter(
                x=times,
                y=values,
                name=escaped(name),
                legendgroup=str(number),
                showlegend=name == run.name,
                hoverinfo="text",
                hovertext=[_hover(name, p, document) for p in own],
                marker={"color": color, **marker},
                error_y=bars(values, low, high, color),
                **{"mode": "markers", **more},
            )
            shown += times
    for line, (label, limit) in enumerate(_limits(runs, documents, in_ms)):
        shown = limit_line(figure, limit, label, shown, line)
    axis.draw(figure)
    statistic = documents[0]["budget"]["statistic"]
    log_axis(
        figure, f"latency {statistic}, ms" if in_ms else "time of a call, share of each run's own reference", shown
    )
    return as_json(figure)


class _ScoreAxis:
    """change: from each run's own reference, in points; else the metric itself."""

    def __init__(self, change: bool, scale: ScoreScale) -> None:
        self._change = change
        self._scale = scale

    def values(self, points: Sequence[Shown], reference: dict[str, Any], key: str) -> list[float]:
        factor = POINTS if self._change or self._scale.in_percent else 1
        before = reference["score"]["val"] if self._change else 0.0
        return [factor * (p["score"][key] - before) for p in points]

    def draw(self, figure: Any) -> None:
        if not self._change:
            score_axis(figure, self._scale, None, [])
            return
        figure.update_yaxes(title="points beside the own reference", **AXIS)
        if not self._scale.maximize:
            figure.update_yaxes(autorange="reversed")


def _limits(
    runs: Sequence[ReportedRun], documents: Sequence[dict[str, Any]], in_ms: bool
) -> Iterator[tuple[str, float]]:
    """The budget of each run, those that are the same once."""
    found: dict[float, list[str]] = {}
    for run, document in zip(runs, documents, strict=True):
        limit = explain.limit_ms(document)
        if limit:
            taken = 1.0 if in_ms else explain.statistic_ms(document["reference"], document)
            found.setdefault(float(f"{limit / taken:.4g}"), []).append(run.name)
    for limit, names in found.items():
        yield ("budget" if len(names) == len(runs) else f"budget of {', '.join(names)}"), limit


def _hover(name: str, p: Shown, document: dict[str, Any]) -> str:
    row = row_of(p, document)
    lines = [
        row["name"],
        *row["steps"],
        f"validation {row['val']} ({row['interval']})",
        f"p50 {row['p50']} ms, p90 {row['p90']} ms, speed-up (p50) {row['speedup']}",
        *row["tags"],
    ]
    return hover_text(name, lines)

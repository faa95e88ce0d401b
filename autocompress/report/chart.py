"""The chart of a run: score over latency of every candidate, with the front and the budget."""

from typing import Any

from autocompress.report import explain
from autocompress.report.canvas import (
    AXIS,
    as_json,
    bars,
    hover_text,
    in_light_colors,
    limit_line,
    log_axis,
    new_figure,
    staircase,
)
from autocompress.report.points import Shown, listed, outside, row_of, unmet
from autocompress.score_scale import ScoreScale

MOST_BARS = 100  # files beside the front, of which the intervals are drawn: those of more hide it


def worst_shown(points: list[Shown], scale: ScoreScale) -> float | None:
    """Where the score axis starts when much worse candidates would squeeze the front into a line; None: show all."""
    ends = [scale.goodness(p["score"][end]) for p in listed(points) for end in ("val_low", "val_high")]
    floor = min(ends) - (max(ends) - min(ends))
    return scale.goodness(floor) if any(scale.goodness(p["score"]["val"]) < floor for p in points) else None


def is_hidden(point: Shown, worst: float | None, scale: ScoreScale) -> bool:
    """Whether it lies outside an axis that starts at ``worst``."""
    return worst is not None and scale.goodness(point["score"]["val"]) < scale.goodness(worst)


def figure_json(document: dict[str, Any], points: list[Shown], worst: float | None) -> str:
    """The chart for a page."""
    return as_json(_figure(document, points, worst))


def front_figure(document: dict[str, Any], points: list[Shown]) -> Any:
    """The chart as a ``plotly.graph_objects.Figure`` that stands by itself."""
    return in_light_colors(_figure(document, points, worst_shown(points, ScoreScale.of(document))))


def _figure(document: dict[str, Any], points: list[Shown], worst: float | None) -> Any:
    """Better scores further up."""
    of_score = ScoreScale.of(document)
    scale = 100 if of_score.in_percent else 1
    figure = new_figure()

    def draw(name: str, shown: list[Shown], color: str, marker: dict[str, Any], **more: Any) -> None:
        if not shown:
            return
        low, val, high = ([scale * p["score"][key] for p in shown] for key in ("val_low", "val", "val_high"))
        symbols = ["circle" if p["feasible"] else "circle-open" for p in shown]
        figure.add_scatter(
            x=[p["ms"] for p in shown],
            y=val,
            name=name,
            hoverinfo="text",
            hovertext=[_hover(p, document) for p in shown],
            marker={"color": color, "symbol": symbols, "line": {"width": 1.5, "color": color}, **marker},
            error_y=bars(val, low, high, color) if with_bars or color != "var(--muted)" else None,
            **{"mode": "markers", **more},
        )

    others = [p for p in points if not (p["on_front"] or p["is_reference"])]
    with_bars = len(others) <= MOST_BARS
    draw("others", [p for p in others if p["feasible"]], "var(--muted)", {"size": 7}, opacity=0.5)
    for name in (outside(document), "undecided", "scored on a sample"):
        shown = [p for p in others if not p["feasible"] and unmet(p, document) == name]
        draw(name, shown, "var(--muted)", {"size": 7}, opacity=0.5)
    front = [p for p in points if p["on_front"]]
    draw("Pareto front", front, "var(--front)", {"size": 8}, mode="lines+markers", line=staircase("var(--front)"))
    draw("reference", [p for p in points if p["is_reference"]], "var(--ink)", {"symbol": "diamond", "size": 11})
    for p in (p for p in points if p["role"]):
        draw(p["role"], [p], "var(--best)", {"symbol": "circle-open", "size": 18, "line": {"width": 3}})
    score_axis(figure, of_score, worst, [p["score"][end] for p in points for end in ("val_low", "val_high")])
    limit, latencies = explain.limit_ms(document), [p["ms"] for p in points]
    if limit:
        latencies = limit_line(figure, limit, f"budget {limit:.4g} ms", latencies)
    log_axis(figure, f"latency {document['budget']['statistic']}, ms", latencies)
    return figure


def score_axis(figure: Any, scale: ScoreScale, worst: float | None, shown: list[float]) -> None:
    """Of the metric in its own unit, better further up, from ``worst`` to the best that is shown."""
    figure.update_yaxes(ticksuffix=" %" if scale.in_percent else "", **AXIS)
    if worst is not None:
        factor, best = 100 if scale.in_percent else 1, max(shown, key=scale.goodness)
        figure.update_yaxes(range=[factor * worst, factor * (best + 0.05 * (best - worst))])
    elif not scale.maximize:
        figure.update_yaxes(autorange="reversed")


def _hover(p: Shown, document: dict[str, Any]) -> str:
    row = row_of(p, document)
    lines = [
        *row["steps"],
        f"validation {row['val']} ({row['interval']})",
        *([] if p["score"]["test"] is None else [f"test {row['test']}"]),
        f"p50 {row['p50']} ms, p90 {row['p90']} ms, speed-up (p50) {row['speedup']}",
        f"{row['precision']}, {row['size']}, {row['params']} parameters, {row['macs']} MACs",
        *row["tags"],
    ]
    return hover_text(row["name"], lines)

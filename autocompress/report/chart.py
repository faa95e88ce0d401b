"""The chart of a result: score over latency."""

import html
from dataclasses import dataclass
from math import log10
from typing import Any

from autocompress.report import explain
from autocompress.report.points import Shown, listed, outside, row_of, unmet
from autocompress.score_scale import ScoreScale

HOVER_WIDTH = 40  # characters: plotly does not wrap a hover text, and it has to fit a telephone


@dataclass(frozen=True)
class Palette:
    """Colours, as CSS has them: of the page, text, what stands back, lines; of the front and of what was chosen."""

    page: str
    ink: str
    muted: str
    line: str
    front: str
    best: str


OF_THE_PAGE = Palette("var(--page)", "var(--ink)", "var(--muted)", "var(--line)", "var(--front)", "var(--best)")
LIGHT = Palette("#ffffff", "#1b1f24", "#68717b", "#e1e4e8", "#2563eb", "#cf4a0b")  # as report.html.j2 has them


def worst_shown(points: list[Shown], scale: ScoreScale) -> float | None:
    """Where the score axis starts when much worse candidates would squeeze the front into a line; None: show all."""
    ends = [scale.goodness(p["score"][end]) for p in listed(points) for end in ("val_low", "val_high")]
    floor = min(ends) - (max(ends) - min(ends))
    return scale.goodness(floor) if any(scale.goodness(p["score"]["val"]) < floor for p in points) else None


def is_hidden(point: Shown, worst: float | None, scale: ScoreScale) -> bool:
    """Whether it lies outside an axis that starts at ``worst``."""
    return worst is not None and scale.goodness(point["score"]["val"]) < scale.goodness(worst)


def figure_json(document: dict[str, Any], points: list[Shown], worst: float | None) -> str:
    """The chart as JSON for a script element. Its colours are CSS variables, resolved on the page: light or dark."""
    return str(_figure(document, points, worst, OF_THE_PAGE).to_json()).replace("<", "\\u003c")


def front_figure(document: dict[str, Any], points: list[Shown]) -> Any:
    """The chart as a ``plotly.graph_objects.Figure`` that stands by itself."""
    return _figure(document, points, worst_shown(points, ScoreScale.of(document)), LIGHT)


def _figure(document: dict[str, Any], points: list[Shown], worst: float | None, colors: Palette) -> Any:
    """Better scores further up."""
    import plotly.graph_objects as go

    of_score = ScoreScale.of(document)
    scale = 100 if of_score.in_percent else 1
    figure = go.Figure(layout={"template": "none"})

    def draw(name: str, shown: list[Shown], color: str, marker: dict[str, Any], **more: Any) -> None:
        if not shown:
            return
        scores = [p["score"] for p in shown]
        up = [scale * max(0.0, s["val_high"] - s["val"]) for s in scores]
        down = [scale * max(0.0, s["val"] - s["val_low"]) for s in scores]
        symbols = ["circle" if p["feasible"] else "circle-open" for p in shown]
        figure.add_scatter(
            x=[p["ms"] for p in shown],
            y=[scale * s["val"] for s in scores],
            name=name,
            hoverinfo="text",
            hovertext=[_hover(p, document) for p in shown],
            marker={"color": color, "symbol": symbols, "line": {"width": 1.5, "color": color}, **marker},
            error_y={"array": up, "arrayminus": down, "color": color, "thickness": 1, "width": 2},
            **{"mode": "markers", **more},
        )

    others = [p for p in points if not (p["on_front"] or p["is_reference"])]
    draw("others", [p for p in others if p["feasible"]], colors.muted, {"size": 7}, opacity=0.5)
    for name in (outside(document), "undecided", "scored on a sample"):
        shown = [p for p in others if not p["feasible"] and unmet(p, document) == name]
        draw(name, shown, colors.muted, {"size": 7}, opacity=0.5)
    # A staircase, because between two models there is no third: until the next one's latency, the last one is the best.
    line = {"color": colors.front, "width": 1.5, "shape": "hv"}
    front = [p for p in points if p["on_front"]]
    draw("Pareto front", front, colors.front, {"size": 8}, mode="lines+markers", line=line)
    draw("reference", [p for p in points if p["is_reference"]], colors.ink, {"symbol": "diamond", "size": 11})
    for p in (p for p in points if p["role"]):
        draw(p["role"], [p], colors.best, {"symbol": "circle-open", "size": 18, "line": {"width": 3}})
    if worst is not None:
        best = max((p["score"][end] for p in points for end in ("val_low", "val_high")), key=of_score.goodness)
        figure.update_yaxes(range=[scale * worst, scale * (best + 0.05 * (best - worst))])
    elif not of_score.maximize:
        figure.update_yaxes(autorange="reversed")
    _axes(figure, document, [p["ms"] for p in points], colors)
    return figure


def _hover(p: Shown, document: dict[str, Any]) -> str:
    row = row_of(p, document)
    lines = [
        *row["steps"],
        f"validation {row['val']} ({row['interval']})",
        *([] if p["score"]["test"] is None else [f"test {row['test']}"]),
        f"p50 {row['p50']} ms, p90 {row['p90']} ms, speed-up {row['speedup']}",
        f"{row['size']}, {row['params']} parameters, {row['macs']} MACs",
        *row["tags"],
    ]
    clipped = [t if len(t) <= HOVER_WIDTH else t[: HOVER_WIDTH - 1] + "…" for t in (row["name"], *lines)]
    # quote=False: plotly knows few entities and would show &quot; as it stands.
    bold, *rest = [html.escape(t, quote=False) for t in clipped]
    return "<br>".join([f"<b>{bold}</b>", *rest])


def _axes(figure: Any, document: dict[str, Any], latencies: list[float], colors: Palette) -> None:
    """Axes, theme and the line of the budget, which a speed-up puts at its share of the reference's latency."""
    budget = document["budget"]
    limit = budget["latency_ms"]
    if budget["speedup"]:
        limit = explain.statistic_ms(document["reference"], document) / budget["speedup"]
    shown = [*latencies, limit] if limit else latencies
    left, right = min(shown) / 1.25, max(shown) * 1.25
    ticks = [m * 10.0**e for e in range(-5, 7) for m in (1, 1.5, 2, 3, 5, 7) if left <= m * 10.0**e <= right]
    if len(ticks) > 8:
        ticks = [t for t in ticks if f"{t:.1e}"[:3] in ("1.0", "2.0", "5.0")]
    text = {"family": "system-ui, sans-serif", "color": colors.ink, "size": 12}
    axis = {"gridcolor": colors.line, "linecolor": colors.line, "zeroline": False, "automargin": True}
    figure.update_layout(
        font=text,
        paper_bgcolor=colors.page,
        plot_bgcolor=colors.page,
        hovermode="closest",
        hoverlabel={"bgcolor": colors.page, "bordercolor": colors.muted, "font": text, "align": "left"},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
    )
    figure.update_yaxes(ticksuffix=" %" if ScoreScale.of(document).in_percent else "", **axis)
    title = f"latency {html.escape(budget['statistic'], quote=False)}, ms"
    figure.update_xaxes(type="log", range=[log10(left), log10(right)], title=title, **axis)
    if ticks:
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
    if limit:
        dashes = {"dash": "dash", "color": colors.ink, "width": 1.5}
        figure.add_shape(type="line", x0=limit, x1=limit, y0=0, y1=1, yref="paper", layer="below", line=dashes)
        side = "left" if limit * limit < left * right else "right"
        label = {"text": f"budget {limit:.4g} ms", "xanchor": side, "yanchor": "bottom", "showarrow": False}
        figure.add_annotation(x=log10(limit), y=0, yref="paper", **label)

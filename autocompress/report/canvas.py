"""What the charts of a page share: colours that follow the page, axes of latency, staircases, hover texts.

Colours are CSS variables, resolved on the page: light or dark. Names in a chart are somebody else's text, and plotly
draws a subset of HTML in texts: all of it is escaped.
"""

import html
from collections.abc import Iterable, Sequence
from math import log10
from typing import Any

HOVER_WIDTH = 40  # characters: plotly does not wrap a hover text, and it has to fit a telephone
FAR_BEYOND = 3.0  # times the slowest or fastest file: an axis that long would squeeze all files into a corner
LIGHT = {  # as report.css has them
    "--page": "#ffffff",
    "--ink": "#1b1f24",
    "--muted": "#68717b",
    "--line": "#e1e4e8",
    "--front": "#2563eb",
    "--best": "#cf4a0b",
}
LINE = 0.06  # of the height of a chart
TEXT = {"family": "system-ui, sans-serif", "color": "var(--ink)", "size": 12}
AXIS = {"gridcolor": "var(--line)", "linecolor": "var(--line)", "zeroline": False, "automargin": True}


def new_figure() -> Any:
    """An empty one in the page's colours."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": "none"})
    figure.update_layout(
        font=TEXT,
        paper_bgcolor="var(--page)",
        plot_bgcolor="var(--page)",
        hovermode="closest",
        hoverlabel={"bgcolor": "var(--page)", "bordercolor": "var(--muted)", "font": TEXT, "align": "left"},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
        showlegend=True,
    )
    return figure


def as_json(figure: Any) -> str:
    """As the page unpacks it."""
    return str(figure.to_json())


def in_light_colors(figure: Any) -> Any:
    """The same figure with the page's light colours, for wherever there is no page around it."""
    from plotly.io import from_json

    text = str(figure.to_json())
    for name, color in LIGHT.items():
        text = text.replace(f"var({name})", color)
    return from_json(text)


def escaped(text: object) -> str:
    """quote=False: plotly knows few entities and would show &quot; as it stands."""
    return html.escape(str(text), quote=False)


def hover_text(name: str, lines: Iterable[str]) -> str:
    bold, *rest = [escaped(t if len(t) <= HOVER_WIDTH else f"{t[: HOVER_WIDTH - 1]}…") for t in (name, *lines)]
    return "<br>".join([f"<b>{bold}</b>", *rest])


def bars(values: Sequence[float], low: Sequence[float], high: Sequence[float], color: str) -> dict[str, Any]:
    """Intervals around values, as error bars."""
    up = [max(0.0, end - value) for value, end in zip(values, high, strict=True)]
    down = [max(0.0, value - end) for value, end in zip(values, low, strict=True)]
    return {"array": up, "arrayminus": down, "color": color, "thickness": 1, "width": 2}


def staircase(color: str) -> dict[str, Any]:
    """A line of steps, because between two models there is no third: until the next one's latency, the last one is the
    best.
    """
    return {"color": color, "width": 1.5, "shape": "hv"}


def log_axis(figure: Any, title: str, shown: Sequence[float], suffix: str = "") -> None:
    """The axis of latencies, or of ratios of them: each step of it is as many times slower."""
    left, right = min(shown) / 1.25, max(shown) * 1.25
    ticks = [m * 10.0**e for e in range(-5, 7) for m in (1, 1.5, 2, 3, 5, 7) if left <= m * 10.0**e <= right]
    if len(ticks) > 8:
        ticks = [t for t in ticks if f"{t:.1e}"[:3] in ("1.0", "2.0", "5.0")]
    figure.update_xaxes(type="log", range=[log10(left), log10(right)], title=escaped(title), **AXIS)
    if ticks:
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{t:g}{suffix}" for t in ticks])


def limit_line(figure: Any, limit: float, label: str, shown: Sequence[float], line: int = 0) -> list[float]:
    """A dashed line on an axis of latencies; one that lies far beyond what is shown is said at the edge. What the axis
    has to show. line: of the label, above those of other limits.
    """
    low, high = min(shown), max(shown)
    said: dict[str, Any] = {"yanchor": "bottom", "showarrow": False, "y": LINE * line, "yref": "paper"}
    if low / FAR_BEYOND <= limit <= high * FAR_BEYOND:
        dashes = {"dash": "dash", "color": "var(--ink)", "width": 1.5}
        figure.add_shape(type="line", x0=limit, x1=limit, y0=0, y1=1, yref="paper", layer="below", line=dashes)
        shown = [*shown, limit]
        side = "left" if limit * limit < min(shown) * max(shown) else "right"
        figure.add_annotation(text=escaped(label), x=log10(limit), xanchor=side, **said)
        return list(shown)
    text, x, side = (f"{label} →", 1, "right") if limit > high else (f"← {label}", 0, "left")
    figure.add_annotation(text=escaped(text), x=x, xref="paper", xanchor=side, **said)
    return list(shown)

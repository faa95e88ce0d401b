"""The HTML report: one file that needs no network, made from ``front.json`` alone.

Names and reasons come from tasks and plug-ins, so all of them are untrusted text. The template escapes what it prints,
hover texts are escaped again for plotly (which draws a subset of HTML in them), the chart's JSON cannot close its
script element, and a content security policy stops anything that got past these, network requests included.
"""

import html
import re
import secrets
from collections.abc import Iterable
from math import log10
from pathlib import Path
from typing import Any

from autocompress.report import explain
from autocompress.storage.atomic import write_text
from autocompress.storage.ownership import refuse_other_page

Shown = dict[str, Any]  # a candidate of front.json
HOVER_WIDTH = 40  # characters: plotly does not wrap a hover text, and it has to fit a telephone
CAUSES_QUOTED = 3


def write_report(document: dict[str, Any], path: Path) -> None:
    """Write the report of a run, whole or not at all: on any failure an older report stays.

    document: the content of ``front.json``. Raises AutocompressError when ``path`` cannot be written or is a page of
    somebody else's.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    refuse_other_page(path)
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    points = _points(document)
    lowest = _lowest(points)
    page = pages.get_template("report.html.j2").render(
        document=document,
        nonce=secrets.token_urlsafe(16),
        plotly_js=Markup(get_plotlyjs()),
        figure=Markup(_figure(document, points, lowest)),
        outside=_outside(document),
        hidden=sum(p["score"]["val"] < lowest for p in points) if lowest is not None else 0,
        conclusion=explain.conclusion(document),
        slack=explain.slack(document),
        smallest=explain.smallest(document),
        rows=[_row(p, document) for p in reversed(_listed(points))],
        rejected=_groups((_kind(r["reason"]), _label(r)) for r in document["rejected"]),
        failed=_groups((": ".join(filter(None, (f["strategy"], f["reason"]))), _label(f)) for f in document["failed"]),
        chosen=next((_row(p, document) for p in points if p["role"]), None),
        environment=_environment(document),
    )
    # A lone surrogate, from the bytes of a file name in an error message, must not cost the user the report.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


def _points(document: dict[str, Any]) -> list[Shown]:
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


def _listed(points: list[Shown]) -> list[Shown]:
    return [p for p in points if p["on_front"] or p["role"] or p["is_reference"]]


def _outside(document: dict[str, Any]) -> str:
    bounded = document["budget"]["latency_ms"] or document["budget"]["speedup"]
    return "outside budget" if bounded else "loses too much"


def _row(p: Shown, document: dict[str, Any]) -> dict[str, Any]:
    """One point as the texts that the table and the hover share."""
    metric, score, latency = document["metric"], p["score"], p["latency_ms"]
    tags = [p["role"], "reference" if p["is_reference"] else "", "" if p["feasible"] else _outside(document)]
    return {
        "role": p["role"],
        "tags": [t for t in (*tags, "" if latency.get("reliable", True) else "unreliable timing") if t],
        "name": explain.techniques(p),
        "val": explain.score_text(score["val"], metric),
        "interval": f"{explain.score_text(score['val_low'], metric)} – {explain.score_text(score['val_high'], metric)}",
        "test": explain.score_text(score["test"], metric),
        "p50": _digits(latency["p50"]),
        "p90": _digits(latency["p90"]),
        "speedup": f"{1 / latency['ratio']:.2f}×",
        "size": f"{_amount(p['size_bytes'])}B",
        "params": _amount(p["params"]),
        "macs": _amount(p["macs"]),
        "steps": explain.steps(p),
    }


def _digits(value: float) -> str:
    """Three of them, which is what a timing is good for, zeros included so that a column reads evenly."""
    return f"{value:#.3g}".rstrip(".") if value < 999.5 else f"{value:.0f}"


def _amount(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{_digits(value / size)} {unit}"
    return f"{value:g} "


def _kind(reason: str) -> str:
    """A reason without the measurement it ends in, so that one cause is one group."""
    return re.sub(r"\s*\([^()]*\d[^()]*\)$", "", reason)


def _label(entry: dict[str, Any]) -> str:
    text = ", ".join(explain.steps(entry)) or "unchanged"
    return f"{text}: {entry['latency_ms']:.4g} ms" if entry.get("latency_ms") is not None else text


def _groups(entries: Iterable[tuple[str, str]]) -> list[tuple[str, int, list[str]]]:
    """(cause, how many, a few examples), the most frequent cause first."""
    found: dict[str, list[str]] = {}
    for cause, example in entries:
        found.setdefault(cause, []).append(example)
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return [(cause, len(all_), list(dict.fromkeys(all_))[:CAUSES_QUOTED]) for cause, all_ in ordered]


def _environment(document: dict[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)

    minutes, seconds = divmod(round(document["wall_seconds"]), 60)
    rest = {
        "seed": document["seed"],
        "recipes tried": document["tried"],
        "time taken": f"{minutes} min {seconds} s",
        "where it went": explain.time_spent(document),
        "first rung against last": explain.rungs(document),
    }
    return {
        key: text(value) for key, value in {**document["environment"], **rest}.items() if value not in (None, "", {})
    }


def _lowest(points: list[Shown]) -> float | None:
    """Where the score axis starts when much worse candidates would squeeze the front into a line; None: show all."""
    main = [p["score"] for p in _listed(points)]
    low, high = min(s["val_low"] for s in main), max(s["val_high"] for s in main)
    floor = float(low - (high - low))
    return floor if any(p["score"]["val"] < floor for p in points) else None


def _figure(document: dict[str, Any], points: list[Shown], lowest: float | None) -> str:
    """The chart as JSON for a script element. Its colours are CSS variables, resolved on the page: light or dark."""
    import plotly.graph_objects as go

    scale = 100 if document["metric"] == "accuracy" else 1
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
    draw("others", [p for p in others if p["feasible"]], "var(--muted)", {"size": 7}, opacity=0.5)
    draw(_outside(document), [p for p in others if not p["feasible"]], "var(--muted)", {"size": 7}, opacity=0.5)
    # A staircase, because between two models there is no third: until the next one's latency, the last one is the best.
    line = {"color": "var(--front)", "width": 1.5, "shape": "hv"}
    front = [p for p in points if p["on_front"]]
    draw("Pareto front", front, "var(--front)", {"size": 8}, mode="lines+markers", line=line)
    draw("reference", [p for p in points if p["is_reference"]], "var(--ink)", {"symbol": "diamond", "size": 11})
    for p in (p for p in points if p["role"]):
        draw(p["role"], [p], "var(--best)", {"symbol": "circle-open", "size": 18, "line": {"width": 3}})
    if lowest is not None:
        highest = max(p["score"]["val_high"] for p in points)
        figure.update_yaxes(range=[scale * lowest, scale * (highest + 0.05 * (highest - lowest))])
    _axes(figure, document, [p["ms"] for p in points])
    return str(figure.to_json()).replace("<", "\\u003c")


def _hover(p: Shown, document: dict[str, Any]) -> str:
    row = _row(p, document)
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


def _axes(figure: Any, document: dict[str, Any], latencies: list[float]) -> None:
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
    text = {"family": "system-ui, sans-serif", "color": "var(--ink)", "size": 12}
    axis = {"gridcolor": "var(--line)", "linecolor": "var(--line)", "zeroline": False, "automargin": True}
    figure.update_layout(
        font=text,
        paper_bgcolor="var(--page)",
        plot_bgcolor="var(--page)",
        hovermode="closest",
        hoverlabel={"bgcolor": "var(--page)", "bordercolor": "var(--muted)", "font": text, "align": "left"},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
    )
    figure.update_yaxes(ticksuffix=" %" if document["metric"] == "accuracy" else "", **axis)
    title = f"latency {html.escape(budget['statistic'], quote=False)}, ms"
    figure.update_xaxes(type="log", range=[log10(left), log10(right)], title=title, **axis)
    if ticks:
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
    if limit:
        dashes = {"dash": "dash", "color": "var(--ink)", "width": 1.5}
        figure.add_shape(type="line", x0=limit, x1=limit, y0=0, y1=1, yref="paper", layer="below", line=dashes)
        side = "left" if limit * limit < left * right else "right"
        label = {"text": f"budget {limit:.4g} ms", "xanchor": side, "yanchor": "bottom", "showarrow": False}
        figure.add_annotation(x=log10(limit), y=0, yref="paper", **label)

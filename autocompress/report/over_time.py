"""How the front of a search grew: as it was at several moments, worked out from when each file was found."""

from typing import Any

from autocompress.explore.standings.front import pareto
from autocompress.report.canvas import as_json, hover_text, log_axis, new_figure, staircase
from autocompress.report.chart import score_axis
from autocompress.report.points import Shown, row_of
from autocompress.score_scale import ScoreScale

MOMENTS = (0.25, 0.5, 1.0)  # of the time until the last file


def fronts(points: list[Shown], scale: ScoreScale) -> list[tuple[float, list[Shown]]]:
    """(seconds, what nothing found by then dominates, the fastest first), at last the front that is reported; a moment
    at which nothing was new is left out. Files that were scored on a sample only are on none. Nothing where all files
    were there at once.
    """
    whole = [p for p in points if not p["score"].get("sampled")]
    last = max((p.get("elapsed_s", 0.0) for p in whole), default=0.0)
    found: list[tuple[float, list[Shown]]] = []
    for seconds in (share * last for share in MOMENTS if last > 0):
        known = [p for p in whole if p.get("elapsed_s", 0.0) <= seconds]
        front = pareto([(scale.goodness(p["score"]["val"]), p["latency_ms"]["ratio"]) for p in known])
        reported = [p for p in points if p["on_front"]] if seconds == last else []
        shown = reported or [known[index] for index in front]
        if shown and (not found or shown != found[-1][1]):
            found.append((seconds, shown))
    return found


def over_time_json(document: dict[str, Any], found: list[tuple[float, list[Shown]]]) -> str:
    """The fronts in one chart, the last one in the colour of the front, earlier ones fainter; as far down as the last
    one reaches, and as much again.
    """
    scale = ScoreScale.of(document)
    factor = 100 if scale.in_percent else 1
    figure = new_figure()
    for number, (seconds, shown) in enumerate(found):
        color = "var(--front)" if number == len(found) - 1 else "var(--muted)"
        figure.add_scatter(
            x=[p["ms"] for p in shown],
            y=[factor * p["score"]["val"] for p in shown],
            name=f"after {duration(seconds)}",
            mode="lines+markers",
            line={**staircase(color), "dash": "solid" if number == len(found) - 1 else ("dot", "dash")[number]},
            marker={"color": color, "size": 7, "symbol": ("square-open", "triangle-up-open", "circle")[number]},
            hoverinfo="text",
            hovertext=[_hover(p, document) for p in shown],
        )
    scores = [float(scale.goodness(p["score"]["val"])) for p in found[-1][1]]
    floor = 2 * min(scores) - max(scores)
    values = [p["score"]["val"] for _, front in found for p in front]
    below = floor < min(scores) and any(scale.goodness(value) < floor for value in values)
    score_axis(figure, scale, scale.goodness(floor) if below else None, values)
    log_axis(figure, f"latency {document['budget']['statistic']}, ms", [p["ms"] for _, shown in found for p in shown])
    return as_json(figure)


def when_found(document: dict[str, Any], points: list[Shown]) -> str | None:
    """When the chosen file was there."""
    chosen = next((p for p in points if p["role"] and p.get("elapsed_s")), None)
    if chosen is None or document["wall_seconds"] is None:
        return None
    return (
        f"The {chosen['role']} file was there after {duration(chosen['elapsed_s'])} of the "
        f"{duration(document['wall_seconds'])} that the search took."
    )


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _hover(p: Shown, document: dict[str, Any]) -> str:
    row = row_of(p, document)
    found = f"found after {duration(p.get('elapsed_s', 0.0))}"
    return hover_text(row["name"], [*row["steps"], f"validation {row['val']}, {row['speedup']}", found])

"""The HTML report, and the table of a notebook: they need no network, and are made from ``front.json`` alone.

Names and reasons come from tasks and plug-ins, so all of them are untrusted text. The template escapes what it prints,
hover texts are escaped again for plotly (which draws a subset of HTML in them), the chart's JSON cannot close its
script element, and a content security policy stops anything that got past these, network requests included.
"""

import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autocompress.report import explain
from autocompress.report.chart import figure_json, is_hidden, worst_shown
from autocompress.report.explanation import explanation
from autocompress.report.points import class_rows, listed, outside, points_of, row_of
from autocompress.score_scale import ScoreScale
from autocompress.storage.atomic import write_text
from autocompress.storage.ownership import refuse_other_page

CAUSES_QUOTED = 3


def write_report(document: dict[str, Any], path: Path) -> None:
    """Write the report of a run, whole or not at all: on any failure an older report stays.

    document: the content of ``front.json``. Raises AutocompressError when ``path`` cannot be written or is a page of
    somebody else's.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    refuse_other_page(path)
    points = points_of(document)
    scale = ScoreScale.of(document)
    worst = worst_shown(points, scale)
    page = _rendered(
        "report.html.j2",
        document=document,
        nonce=secrets.token_urlsafe(16),
        plotly_js=Markup(get_plotlyjs()),
        figure=Markup(figure_json(document, points, worst)),
        outside=outside(document),
        hidden=sum(is_hidden(p, worst, scale) for p in points),
        conclusion=explain.conclusion(document),
        slack=explain.slack(document),
        smallest=explain.smallest(document),
        explained=[line for lines in explanation(document).values() for line in lines],
        whom_it_hurts=explain.whom_it_hurts(document),
        by_class=class_rows(document),
        where_time_goes=explain.where_time_goes(document),
        int8_scores=explain.scores_hold(document),
        rows=[row_of(p, document) for p in reversed(listed(points))],
        rejected=_groups((_kind(r["reason"]), _label(r)) for r in document["rejected"]),
        failed=_groups((": ".join(filter(None, (f["strategy"], f["reason"]))), _label(f)) for f in document["failed"]),
        chosen=next((row_of(p, document) for p in points if p["role"]), None),
        environment=_environment(document),
    )
    # A lone surrogate, from the bytes of a file name in an error message, must not cost the user the report.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))


def front_table(document: dict[str, Any]) -> str:
    """The front as a table of a notebook, the fastest last, with what was chosen marked and the conclusion above it."""
    rows = [row_of(p, document) for p in reversed(listed(points_of(document)))]
    return _rendered("front.html.j2", document=document, rows=rows, conclusion=explain.conclusion(document))


def _rendered(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(template).render(**values)


def _kind(reason: str) -> str:
    """A reason without the measurement it ends in, and what explains that, so that one cause is one group."""
    return re.sub(r"\s*\([^()]*\d[^()]*\)(: .*)?$", "", reason)


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
        if isinstance(value, list):
            return ", ".join(map(str, value))
        return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)

    minutes, seconds = divmod(round(document["wall_seconds"]), 60)
    rest = {
        "seed": document["seed"],
        "recipes tried": document["tried"],
        "time taken": f"{minutes} min {seconds} s",
        "where it went": explain.time_spent(document),
        "first training against last": explain.rungs(document),
        "untrained against trained": explain.untrained_order(document),
    }
    return {
        key: text(value)
        for key, value in {**document["environment"], **rest}.items()
        if value not in (None, "", {}, [])
    }

"""The HTML report of a run, from ``front.json`` and the record beside it, and the table of a notebook: no network."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autocompress.report import every_candidate, explain, session_rows
from autocompress.report.chart import figure_json, is_hidden, worst_shown
from autocompress.report.explanation import explanation
from autocompress.report.over_time import duration, fronts, over_time_json, when_found
from autocompress.report.page import rendered, write_page
from autocompress.report.points import Shown, example_rows, group_tables, listed, outside, points_of, row_of
from autocompress.report.readable import as_far_as_known, readable
from autocompress.report.recorded import Recorded
from autocompress.score_scale import ScoreScale
from autocompress.storage.front import STORE, chosen, delivered
from autocompress.supervisor import MEASURE_BESIDE

CAUSES_QUOTED = 3
NO_CONCLUSION = "What was recommended and why cannot be told: what it stands on is missing."
WITHOUT_RECORD = Recorded(why="the record was not read")
SPENT_ON = {
    "open": "reading the task, exporting and scoring the reference",
    "structure": "making structures: pruning, factorizing, students",
    "repair": "refitting untrained structures",
    "train": "training",
    "export": "exporting to ONNX",
    "graph": "graph variants: quantizing",
    "measure": "timing files, while nothing else was computed",
    MEASURE_BESIDE: "timing files, while workers went on: not part of the sum",
    "score": "scoring files",
    "wait": "waiting for a quiet machine",
    "driver": "deciding what comes next, and workers without work",
    "other": "anything else",
}


def write_report(document: dict[str, Any], path: Path, recorded: Recorded = WITHOUT_RECORD) -> None:
    """Write the report of a run, whole or not at all: on any failure an older report stays.

    document: the content of ``front.json``; what of it is missing or damaged is left out, and the page says so.
    recorded: what its record tells. Raises AutocompressError when ``path`` cannot be written or is a page of somebody
    else's, and where not even the reference can be shown.
    """
    document, missing = readable(document)
    points = points_of(document)
    scale = ScoreScale.of(document)
    worst = worst_shown(points, scale)
    in_view = [p["id"] for p in points if p["id"] and (p["on_front"] or p["role"])]
    sessions = session_rows.session_rows(recorded.sessions, in_view, path.parent / STORE)
    found = fronts(points, scale)
    all_rows = every_candidate.rows(document, points, path.parent, sessions["files"])

    def known(tell: Any, otherwise: Any = None) -> Any:
        return as_far_as_known(tell, document, otherwise)

    write_page(
        "report.html.j2",
        path,
        document=document,
        missing=[*missing, *missing_files(document, path.parent), *_without_record(recorded)],
        figure=figure_json(document, points, worst),
        outside=outside(document),
        hidden=sum(is_hidden(p, worst, scale) for p in points),
        change_title=scale.change_title,
        asked=known(explain.budget_text, "not said"),
        conclusion=known(explain.conclusion, NO_CONCLUSION),
        sentences=[
            line
            for line in (
                *known(lambda d: list(map(str, d.get("would_help", []))), []),
                *(known(tell) for tell in (explain.whom_it_hurts, explain.examples_that_changed)),
                *(known(tell) for tell in (explain.where_time_goes, explain.few_rows, explain.smallest)),
                *(known(tell) for tell in (explain.scores_hold, explain.slack)),
            )
            if line
        ],
        warnings=[*document["warnings"], *known(lambda d: list(map(str, d.get("advice", []))), [])],
        explained=[line for lines in explanation(document).values() for line in lines],
        by_group=known(group_tables, []),
        examples=known(lambda d: example_rows(d, recorded.pictures), []),
        rows=[row_of(p, document) for p in reversed(listed(points))],
        columns=every_candidate.columns(document),
        all_rows=all_rows,
        candidates=every_candidate.by_column(document, all_rows),
        states=every_candidate.filter_choices(document, all_rows),
        over_time=over_time_json(document, found) if found else None,
        when_found=known(lambda d: when_found(d, points)),
        spent=known(_spent, []),
        importances=recorded.importances,
        not_computable=[f"{one.target} by {one.group} ({one.why})" for one in recorded.importances if one.why],
        sessions=sessions,
        session_columns=session_rows.SESSION_COLUMNS,
        session_shown=next((name for name in _worth_showing(points) if name in sessions["files"]), None),
        rejected=_groups((_kind(r["reason"]), _label(r)) for r in document["rejected"]),
        failed=_groups((every_candidate.cause(f), _label(f)) for f in document["failed"]),
        chosen=next((row_of(p, document) for p in points if p["role"]), None),
        conditions=_conditions(next((p for p in points if p["role"]), None)),
        environment=_environment(document),
    )


def front_table(document: dict[str, Any]) -> str:
    """The front as a table of a notebook, the fastest last, with what was chosen marked and the conclusion above it."""
    rows = [row_of(p, document) for p in reversed(listed(points_of(document)))]
    return rendered("front.html.j2", document=document, rows=rows, conclusion=explain.conclusion(document))


def missing_files(document: dict[str, Any], root: Path) -> list[str]:
    """Which files of a run folder are not where ``front.json`` says."""
    artifacts = [document["reference"]["artifact"], *(c["artifact"] for c in document["candidates"])]
    gone = [name for name in dict.fromkeys(artifacts) if not every_candidate.is_there(root, name)]
    said = []
    if gone:
        all_of = len(set(artifacts))
        said.append(f"{len(gone)} of the {all_of} files that were measured are not in this folder any more.")
    nothing: list[str] = []
    lost = [name for name in as_far_as_known(_handed_on, document, nothing) if not every_candidate.is_there(root, name)]
    if lost:
        said.append(f"Missing of what was delivered: {', '.join(lost)}.")
    return said


def _handed_on(document: dict[str, Any]) -> list[str]:
    return list(delivered(document)) if chosen(document) else []


def _without_record(recorded: Recorded) -> list[str]:
    if not recorded.why:
        return []
    return [f"No timing sessions, and nothing on which choices mattered: {recorded.why}."]


def _worth_showing(points: list[Shown]) -> list[str]:
    """Whose sessions are shown first: those of the chosen file, else of the front."""
    return [p["id"] for p in sorted(points, key=lambda p: (not p["role"], not p["on_front"])) if p["id"]]


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


def _spent(document: dict[str, Any]) -> list[tuple[str, str, str, float]]:
    """(what, in words, how long, its share of the workers' time), the longest first."""
    spent = {name: float(seconds) for name, seconds in (document.get("spent_seconds") or {}).items()}
    whole = sum(seconds for name, seconds in spent.items() if name != MEASURE_BESIDE)
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return [(name, SPENT_ON.get(name, ""), duration(seconds), seconds / whole) for name, seconds in ordered if whole]


def _conditions(chosen: Shown | None) -> dict[str, str]:
    """What the machine did while the chosen file was timed, at its worst."""
    latency: dict[str, Any] = chosen["latency_ms"] if chosen else {}
    found: dict[str, Any] = latency.get("conditions") or {}
    try:
        return {
            "sessions": f"{latency['sessions']}, of which {latency['quiet_sessions']} on a quiet machine",
            "quiet blocks": f"{100 * latency['quiet_blocks']:.0f} % of all",
            "reference slowed": f"{found['reference_slowed']:.2f} times its fastest",
            "load": f"{found['load']:.1f} processes that want to run",
            "time that the host gave to others": f"{100 * found['stolen']:.0f} %",
            "core taken by others": f"{found['switches']:.0f} times a second",
            "stopped by a limit of processor time": f"{100 * found['throttled']:.0f} %",
        }
    except (KeyError, TypeError, ValueError):  # of an earlier version, which did not say
        return {}


def _environment(document: dict[str, Any]) -> dict[str, str]:
    wall, tried = document["wall_seconds"], document["tried"]
    rest = {
        "seed": document["seed"],
        "recipes tried": tried,
        "time given": f"{document['minutes']:g} min" if isinstance(document.get("minutes"), int | float) else None,
        "time taken": None if wall is None else duration(wall),
        "first training against last": as_far_as_known(explain.rungs, document, None),
        "untrained against trained": as_far_as_known(explain.untrained_order, document, None),
    }
    said = {str(key): _text(value) for key, value in {**document["environment"], **rest}.items()}
    return {key: value for key, value in said.items() if value}


def _text(value: Any) -> str:
    """Nested values as words; nothing of what is not known."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, of_one in value.items() if (text := _text(of_one)))
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    return "" if value is None else str(value)

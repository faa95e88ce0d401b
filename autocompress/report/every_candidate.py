"""Every candidate of a run as a row of one table: what was scored, what was rejected, what failed.

The page is given them column by column, packed, and makes the rows that it shows: as elements they would take three
quarters of the page, and a browser seconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from autocompress.report import explain
from autocompress.report.over_time import duration
from autocompress.report.points import Shown, outside, row_of, shown_digits, unmet
from autocompress.score_scale import ScoreScale
from autocompress.storage.front import RECIPE

ON_FRONT, MEETS, UNDECIDED, SAMPLED = "front", "meets", "undecided", "sampled"
OUTSIDE, REJECTED, FAILED = "outside", "rejected", "failed"
SPEED_UP = "speed-up (p50)"


@dataclass(frozen=True)
class Cell:
    """note: below the text, smaller. sort: what a column is sorted by, None where there is nothing."""

    text: str
    sort: float | str | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """descending: whether the largest comes first, which is where the best are."""

    title: str
    descending: bool = False


@dataclass(frozen=True)
class Row:
    """states: what it can be filtered by. links: (text, address beside the report). sessions: the id of a file whose
    sessions the report shows.
    """

    name: str
    states: tuple[str, ...]
    cells: tuple[Cell, ...]
    steps: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    id: str = ""
    links: tuple[tuple[str, str], ...] = ()
    sessions: str = ""
    reason: str = ""


def columns(document: dict[str, Any]) -> list[Column]:
    """All but the first, which is the recipe."""
    scale, statistic = ScoreScale.of(document), document["budget"]["statistic"]
    return [
        Column("validation", scale.maximize),
        Column("test", scale.maximize),
        Column(scale.change_title, scale.maximize),
        *(Column(f"{name} ms") for name in dict.fromkeys(("p50", statistic))),
        Column(SPEED_UP, descending=True),
        Column("precision"),
        Column("size"),
        Column("params"),
        Column("MACs"),
        Column("epochs", descending=True),
        Column("found after"),
    ]


def rows(document: dict[str, Any], points: Iterable[Shown], root: Path, timed: Iterable[str]) -> list[Row]:
    """root: the folder of the report, beside which files are linked, where they are there. timed: ids of the files
    whose sessions are shown.
    """
    with_sessions = set(timed)
    return [
        *(_of_point(p, document, root, with_sessions) for p in points),
        *(_of_note(r, document, REJECTED) for r in document["rejected"]),
        *(_of_note(f, document, FAILED) for f in document["failed"]),
    ]


def by_column(document: dict[str, Any], all_rows: Sequence[Row]) -> dict[str, Any]:
    """What the page makes its rows of: the values of each field over all rows, and of each column of cells."""
    names = ("name", "states", "tags", "steps", "id", "links", "sessions", "reason")
    cells = [[row.cells[at] for row in all_rows] for at in range(len(columns(document)))]
    parts = ("text", "sort", "note")
    return {
        **{name: [getattr(row, name) for row in all_rows] for name in names},
        "cells": [{part: [_short(getattr(cell, part)) for cell in column] for part in parts} for column in cells],
    }


def _short(value: Any) -> Any:
    """Of a number six digits: what a column is sorted by need not be more."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def filter_choices(document: dict[str, Any], all_rows: Iterable[Row]) -> list[tuple[str, str, int]]:
    """What rows can be filtered by: (state, in words, how many rows), those alone that some row has."""
    words = {
        ON_FRONT: "on the front",
        MEETS: "may be recommended",
        UNDECIDED: "undecided",
        SAMPLED: "scored on a sample",
        OUTSIDE: outside(document),
        REJECTED: "rejected, never scored",
        FAILED: "failed",
    }
    held = [state for row in all_rows for state in row.states]
    return [(state, said, held.count(state)) for state, said in words.items() if state in held]


def _of_point(p: Shown, document: dict[str, Any], root: Path, timed: set[str]) -> Row:
    shown, score, latency, found = row_of(p, document), p["score"], p["latency_ms"], p.get("elapsed_s")
    scale = ScoreScale.of(document)
    of_unmet = {outside(document): OUTSIDE, "undecided": UNDECIDED, "scored on a sample": SAMPLED}
    held = [ON_FRONT] * p["on_front"] + [MEETS if p["feasible"] else of_unmet[unmet(p, document)]]
    identifier = p["id"] or ("reference" if p["is_reference"] else "")
    epochs = p.get("fidelity")
    return Row(
        shown["name"],
        tuple(held),
        (
            Cell(shown["val"], score["val"], shown["interval"]),
            Cell(shown["test"], score["test"]),
            _change(p, scale),
            *_milliseconds(p, document),
            Cell(shown["speedup"], 1 / latency["ratio"], _speedup_interval(latency)),
            Cell(shown["precision"], p.get("precision")),
            Cell(shown["size"], p["size_bytes"]),
            Cell(shown["params"], p["params"]),
            Cell(shown["macs"], p["macs"]),
            Cell("-" if epochs is None else f"{epochs:.3g}", epochs),
            Cell("-" if found is None else duration(found), found),
        ),
        steps=tuple(shown["steps"]),
        tags=tuple(shown["tags"]),
        id=identifier,
        links=tuple(_links(p["artifact"], root)),
        sessions=identifier if identifier in timed else "",
    )


def _of_note(entry: dict[str, Any], document: dict[str, Any], state: str) -> Row:
    """Of what was rejected or failed: what is known of it."""
    ms, ratio = entry.get("latency_ms"), entry.get("ratio")
    known = {
        f"{document['budget']['statistic']} ms": Cell(shown_digits(ms), ms) if ms else Cell("-"),
        SPEED_UP: Cell(f"{1 / ratio:.2f}×", 1 / ratio) if ratio else Cell("-"),
    }
    return Row(
        explain.techniques(entry),
        (state,),
        tuple(known.get(column.title, Cell("-")) for column in columns(document)),
        steps=tuple(explain.steps(entry)),
        tags=(state,),
        reason=cause(entry),
    )


def cause(entry: dict[str, Any]) -> str:
    """Why it was rejected or failed, and whose fault that was, where it is known."""
    return ": ".join(filter(None, (str(entry.get("strategy") or ""), entry["reason"])))


def _milliseconds(p: Shown, document: dict[str, Any]) -> list[Cell]:
    """The median, of which the speed-up is, and what the profile asks for."""
    names = dict.fromkeys(("p50", document["budget"]["statistic"]))
    taken = [explain.shown_ms(p, document, name) for name in names]
    return [Cell(shown_digits(ms), ms) for ms in taken]


def _change(p: Shown, scale: ScoreScale) -> Cell:
    """Of score, beside the reference."""
    loss = p.get("loss")
    if not loss:
        return Cell("-")
    return Cell(scale.signed(loss["points"]), scale.goodness(-loss["points"]), scale.half_width(loss["error"]))


def _speedup_interval(latency: dict[str, Any]) -> str:
    low, high = latency.get("ratio_low"), latency.get("ratio_high")
    return f"{1 / high:.2f} – {1 / low:.2f}" if low and high else ""


def is_there(root: Path, name: str) -> bool:
    """Whether a file of a run lies in its folder, or below."""
    try:
        return (root / name).is_file() and (root / name).resolve().is_relative_to(root.resolve())
    except (OSError, ValueError):  # a name that no file can have
        return False


def _links(artifact: str, root: Path) -> list[tuple[str, str]]:
    """To the file and its recipe, where they are there, by addresses that cannot be anything but files beside the
    report.
    """
    named = (("model", artifact), ("recipe", str(Path(artifact).with_name(RECIPE))))
    return [(text, quote(name)) for text, name in named if is_there(root, name) and not Path(name).is_absolute()]

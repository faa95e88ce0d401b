"""How ``inspect`` looks in a terminal."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autocompress.errors import one_line
from autocompress.report.explain import few_rows_text
from autocompress.score_scale import POINTS, ScoreScale

SLOWEST, MOST_SENSITIVE = 10, 12  # rows shown; all are in --json
LEFT = 4  # modules named for each reason


def print_inspection(console: Console, found: dict[str, Any]) -> None:
    """What ``inspect_task`` found, a section each."""
    metric = next(iter(found["score"]))
    print_reference(console, found, metric)
    _operators(console, found["operators"])
    print_strategies(console, found)
    _unchanged(console, found["unchanged_weights"], metric)
    _reach(console, found["reach"])
    _sensitivity(console, found["sensitivity"], metric)
    _left_alone(console, found["left_alone"], found["places"])
    _not_looked_at(console, found["not_looked_at"], found["limit_s"])
    _cut_off(console, found["cut_off"])
    if found["warnings"]:
        console.print()
    for warning in found["warnings"]:
        console.print(_text(f"warning: {warning}", "yellow"))


def print_reference(console: Console, found: dict[str, Any], metric: str) -> None:
    table = section(console, f"Reference of {found['task']}")
    score, low, high = (ScoreScale(metric).text(found["score"][key]) for key in (metric, "low", "high"))
    latency, val = found["latency_ms"], found["examples"]["val"]
    sample = f", on {found['scored']:,} of {val:,} examples" if found["scored"] < val else ""
    busy = "" if latency["quiet"] else ", on a machine kept busy by other work"
    rows = {
        metric: f"{score} (95 %: {low} to {high}{sample})",
        "latency": f"p50 {latency['p50']:.4g} ms, p90 {latency['p90']:.4g} ms{busy}",
        "counts": f"{found['params']:,} parameters, {found['macs'] / 1e6:.4g} M MACs",
        "file": f"{found['size_bytes'] / 1e3:,.0f} kB ({found['compressed_bytes'] / 1e3:,.0f} kB deflated)",
        "exported": found["export_note"],
        "examples": ", ".join(f"{count:,} {name}" for name, count in found["examples"].items() if count),
    }
    for name, text in rows.items():
        table.add_row(_text(name, "dim"), _text(text))
    console.print(table)


def _operators(console: Console, operators: list[dict[str, Any]]) -> None:
    if not operators:
        return
    table = section(console, "Time by operator", ">share", ">ms", "operator", "node")
    for row in operators[:SLOWEST]:
        table.add_row(f"{row['share']:.1%}", f"{row['ms']:.3f}", _text(row["operator"]), _text(row["name"], "dim"))
    others = operators[SLOWEST:]
    if others:
        share, ms = (sum(row[key] for row in others) for key in ("share", "ms"))
        table.add_row(f"{share:.1%}", f"{ms:.3f}", f"{len(others)} others", "")
    console.print(table)


def print_strategies(console: Console, found: dict[str, Any]) -> None:
    applies = found["applies"]
    useful = {name: _offer(answer) for name, answer in applies.items() if answer["size_only"] is None}
    smaller = {name: answer["size_only"] for name, answer in applies.items() if answer["size_only"] is not None}
    width = max(map(len, (*applies, *found["does_not_apply"])), default=0)
    for title, style, rows in (
        ("Strategies that apply", "green", useful),
        ("Strategies that save size only", "cyan", smaller),
        ("Strategies that do not apply", "dim", found["does_not_apply"]),
    ):
        if rows:
            table = section(console, title)
            for name, text in rows.items():
                table.add_row(Text(name.ljust(width), style), _text(text))
            console.print(table)


def _offer(strategy: dict[str, Any]) -> str:
    """What a strategy does, and how much of it there is to search."""
    offers = [
        f"{len(strategy[key])} {key[:-1] if len(strategy[key]) == 1 else key}"
        for key in ("parameters", "variants")
        if strategy[key]
    ]
    return f"{strategy['summary']} ({', '.join(offers)})" if offers else str(strategy["summary"])


def _unchanged(console: Console, variants: dict[str, dict[str, Any]], metric: str) -> None:
    if not variants:
        return
    table = section(console, "The same weights in other files", f">{metric}", ">speed-up", ">kB", ">deflated", "file")
    for recipe, answer in variants.items():
        left_out = answer.get("left_out")
        table.add_row(
            ScoreScale(metric).text(answer.get(metric)),
            f"{answer['speedup']:.2f}x" if "speedup" in answer else "-",
            *(f"{answer[key] / 1e3:,.0f}" if key in answer else "-" for key in ("size_bytes", "compressed_bytes")),
            _text(f"{recipe}: {left_out}", "dim") if left_out else _text(recipe),
        )
    console.print(table)


def _sensitivity(console: Console, sensitivity: dict[str, dict[str, Any]], metric: str) -> None:
    for strategy, answer in sensitivity.items():
        groups = answer["groups"]
        looked_at = [row for row in groups if row["can_go"] or row["cannot_go"]]
        failed = [row for row in groups if row["failed"]]
        repaired = any(row["repaired"] for row in looked_at)
        table = section(console, f"Sensitivity: {strategy}", ">can go", ">lost", ">beyond", "group")
        if looked_at:
            console.print(_text(_what_can_go(answer, metric, repaired=repaired), "dim"))
        if few := few_rows_text(_calibration(looked_at)):
            console.print(_text(few, "dim"))
        looked_at.sort(key=_share)
        for row in looked_at[:MOST_SENSITIVE]:
            unlike = " (not repaired)" if repaired and not row["repaired"] else ""
            group = _text(row["group"]).append(unlike, "dim")
            table.add_row(_can_go(row), _lost(row["can_go"], metric), _beyond(row, metric), group)
        for row in failed[:LEFT]:
            table.add_row("-", "-", "-", _text(f"{row['group']}: {row['failed']}", "dim"))
        less = looked_at[MOST_SENSITIVE:]
        if less:
            table.add_row("", "", "", _text(f"{len(less)} more: {100 * _share(less[0]):.0f} % or more can go", "dim"))
        others = [row["group"] for row in groups if row not in looked_at and row not in failed]
        if others:
            text = f"no time for {len(others)} more: {', '.join(others[:LEFT])}{', ...' if len(others) > LEFT else ''}"
            table.add_row("", "", "", _text(text, "dim"))
        console.print(table)


def _calibration(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """What all were repaired on: of each layer the fewest rows that it had for its width."""
    repaired = [row["calibration"] for row in groups if row["calibration"]]
    layers = [layer for own in repaired for layer in own.get("few_rows", ())]
    layers.sort(key=lambda layer: layer["rows"] / layer["regressors"])
    fewest: dict[str, dict[str, Any]] = {}
    for layer in layers:
        fewest.setdefault(layer["layer"], layer)
    return {**repaired[0], "few_rows": [*fewest.values()]} if repaired else {}


def _what_can_go(answer: dict[str, Any], metric: str, *, repaired: bool) -> str:
    """What the numbers say."""
    lost = "a point" if ScoreScale(metric).in_percent else f"{answer['lost']:g}"
    how = "repaired and not trained" if repaired else "neither repaired nor trained"
    return f"How much can go before {lost} of {metric} is lost, {how}, on {answer['scored']:,} examples."


def _removed(row: dict[str, Any]) -> int:
    return int(row["can_go"]["count"]) if row["can_go"] else 0


def _share(row: dict[str, Any]) -> float:
    return _removed(row) / float(row["units"])


def _can_go(row: dict[str, Any]) -> str:
    """How much can go of what was tried, "≥" where nothing larger was, "<" what cannot where nothing smaller can."""
    count, units = _removed(row), row["units"]
    bound = "" if row["cannot_go"] or count == units else "≥ "
    if not row["can_go"] and (least := row["cannot_go"]["count"]) < units:
        bound, count = "< ", least
    return f"{bound}{100 * count / units:.0f} % ({count} of {units})"


def _lost(removal: dict[str, Any] | None, metric: str) -> str:
    """With its standard error, in points of accuracy or in the metric's own unit."""
    if removal is None:
        return "-"
    if removal["lost"] is None:
        return "no number"
    scale, form = (POINTS, ".1f") if ScoreScale(metric).in_percent else (1, ".3g")
    return f"{scale * removal['lost']:{form}} ± {scale * removal['error']:{form}}"


def _beyond(row: dict[str, Any], metric: str) -> str:
    """What the next larger removal lost that was tried."""
    beyond = row["cannot_go"]
    return f"{beyond['count']}: {_lost(beyond, metric)}" if beyond else "-"


def _reach(console: Console, reached: dict[str, dict[str, Any]]) -> None:
    if not reached:
        return
    table = section(console, "What is left to compute, each at its strongest", ">MACs", ">layers", "strategy", "which")
    for strategy, answer in reached.items():
        layers = f"{len(answer['layers'])} of {answer['of']}"
        table.add_row(
            f"{answer['macs']:.0%}", layers, _text(strategy), _text(", ".join(grouped(answer["layers"])), "dim")
        )
    console.print(table)


def _left_alone(console: Console, left: dict[str, dict[str, str]], places: dict[str, str]) -> None:
    """A row for each reason of each strategy."""
    if not left:
        return
    table = section(console, "Left as they are", "strategy", "why and which")
    for strategy, reasons in left.items():
        modules: dict[str, list[str]] = {}
        for module, reason in reasons.items():
            modules.setdefault(reason, []).append(module)
        for number, (reason, names) in enumerate(modules.items()):
            groups = grouped(names)
            others = sum(map(len, list(groups.values())[LEFT:]))
            shown = ", ".join(f"{group}{_called_at(own, places)}" for group, own in list(groups.items())[:LEFT])
            text = f"{reason}: {shown}{f' and {others} more' if others else ''}"
            table.add_row(_text("" if number else strategy), _text(text, "dim"))
    console.print(table)


def _called_at(names: Sequence[str], places: dict[str, str]) -> str:
    """The line that calls them, or several of them where there are more."""
    lines = list(dict.fromkeys(places[name] for name in names if name in places))
    return f" ({', '.join(lines[:2])}{', ...' if len(lines) > 2 else ''})" if lines else ""


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Modules that differ in one number alone are shown as one, ``blocks.0-11.mlp``; each with those it stands for. The
    model itself, which has no name, is called that.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"(?<![^.])\d+(?![^.])", "*", name, count=1), []).append(name)
    return {_range(pattern, own): own for pattern, own in found.items()}


def _range(pattern: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0] or "the model itself"
    before, after = (len(part) for part in pattern.split("*"))
    numbers = sorted({int(name[before : len(name) - after]) for name in names})
    together = numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 1
    shown = f"{numbers[0]}-{numbers[-1]}" if together else ",".join(map(str, numbers))
    return pattern.replace("*", shown)


def _not_looked_at(console: Console, missed: Sequence[str], limit_s: float) -> None:
    if missed:
        console.print()
        text = f"not looked at in {limit_s:.0f} s: {', '.join(missed)} (more --seconds leave time for it)"
        console.print(_text(text, "yellow"))


def _cut_off(console: Console, cut_off: Sequence[str]) -> None:
    if cut_off:
        console.print()
    for what in cut_off:
        console.print(_text(what, "yellow"))


def section(console: Console, title: str, *columns: str) -> Table:
    """A titled table; a column that starts with ``>`` is of numbers."""
    console.print()
    console.print(_text(title, "bold"))
    table = Table(box=None, pad_edge=False, show_header=bool(columns), header_style="dim")
    for name in columns:
        number = name.startswith(">")
        table.add_column(name.lstrip(">"), justify="right" if number else "left", no_wrap=number)
    return table


def _text(text: str, style: str = "") -> Text:
    """Without control characters: names and reasons come from files and plug-ins."""
    return Text(one_line(text, 2000), style=style)

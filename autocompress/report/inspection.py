"""How ``inspect`` looks in a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autocompress.report import explain

ROWS = 10  # of operators and of groups; all are in --json


def print_inspection(console: Console, found: dict[str, Any]) -> None:
    metric, latency = next(iter(found["score"])), found["latency_ms"]
    reference = _section(console, f"Reference of {found['task']}")
    low, high = (explain.score(found["score"][end], metric) for end in ("low", "high"))
    rows = {
        metric: f"{explain.score(found['score'][metric], metric)} (95 %: {low} to {high})",
        "latency": f"p50 {latency['p50']:.4g} ms, p90 {latency['p90']:.4g} ms"
        + ("" if latency["reliable"] else ", disturbed by other work on this machine"),
        "size": f"{found['params']:,} parameters, {found['macs'] / 1e6:.4g} M MACs, "
        f"{found['size_bytes'] / 1e3:,.0f} kB ({found['compressed_bytes'] / 1e3:,.0f} kB deflated)",
        "data": ", ".join(f"{count:,} {name}" for name, count in found["examples"].items() if count),
        "export": found["export_note"],
    }
    for name, text in rows.items():
        reference.add_row(Text(name), Text(text))
    console.print(reference)
    _operators(console, found["operators"])
    _strategies(console, found)
    _unchanged(console, found["unchanged_weights"], metric)
    _sensitivity(console, found["sensitivity"])
    for warning in found["warnings"]:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _operators(console: Console, operators: list[dict[str, Any]]) -> None:
    if not operators:
        return
    table = _section(
        console, "Time by operator", ("share", "right"), ("ms", "right"), ("operator", "left"), ("", "left")
    )
    for row in operators[:ROWS]:
        table.add_row(f"{row['share']:.0%}", f"{row['ms']:.4f}", Text(row["operator"]), Text(row["name"], style="dim"))
    rest = operators[ROWS:]
    if rest:
        share, ms = sum(r["share"] for r in rest), sum(r["ms"] for r in rest)
        table.add_row(f"{share:.0%}", f"{ms:.4f}", Text(f"{len(rest)} others"), "")
    console.print(table)


def _strategies(console: Console, found: dict[str, Any]) -> None:
    table = _section(console, "Strategies")
    applies = {n: a for n, a in found["applies"].items() if a["size_only"] is None}
    for name, told in applies.items():
        table.add_row(Text(name, style="green"), Text(told["summary"]))
    for name, told in found["applies"].items():
        if name not in applies:
            table.add_row(Text(name, style="cyan"), Text(f"saves size only: {told['size_only']}"))
    for name, reason in found["does_not_apply"].items():
        table.add_row(Text(name, style="dim"), Text(f"does not apply: {reason}", style="dim"))
    console.print(table)


def _unchanged(console: Console, variants: dict[str, dict[str, Any]], metric: str) -> None:
    if not variants:
        return
    columns = ((metric, "right"), ("speed-up", "right"), ("kB", "right"), ("", "left"))
    table = _section(console, "The same weights, quantized", *columns)
    for recipe, told in variants.items():
        if "left_out" in told:
            table.add_row("", "", "", Text(f"{recipe}: {told['left_out']}", style="dim"))
        else:
            score, size = explain.score(told[metric], metric), f"{told['size_bytes'] / 1e3:,.0f}"
            table.add_row(score, f"{told['speedup']:.2f}x", size, Text(recipe))
    console.print(table)


def _sensitivity(console: Console, sensitivity: dict[str, list[dict[str, Any]]]) -> None:
    for strategy, groups in sensitivity.items():
        share = groups[0]["share"]
        columns = (("loss", "right"), ("units", "right"), ("", "left"))
        table = _section(
            console, f"Sensitivity: {strategy} (rise of the loss when {share:.0%} of a group goes)", *columns
        )
        for row in groups[:ROWS]:
            table.add_row(f"{row['loss']:+.3f}", f"{row['units']}", Text(row["group"]))
        if len(groups) > ROWS:
            table.add_row("", "", Text(f"{len(groups) - ROWS} less sensitive ones", style="dim"))
        console.print(table)


def _section(console: Console, title: str, *columns: tuple[str, str]) -> Table:
    console.print(Text(f"\n{title}", style="bold"))
    table = Table(box=None, pad_edge=False, show_header=bool(columns))
    for name, justify in columns:
        table.add_column(name, justify=justify, no_wrap=justify == "right")  # type: ignore[arg-type]
    return table

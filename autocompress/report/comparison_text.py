"""The comparison of runs as a terminal shows it."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autocompress.errors import one_line

OF_RECOMMENDED = ("techniques", "validation", "test", "latency", "speedup", "size")


def print_comparison(console: Console, comparison: dict[str, Any]) -> None:
    """What each run recommends, what differs, and what cannot be compared; names are shown as they are written."""
    runs = [one_line(run["run"], 60) for run in comparison["runs"]]
    rows = {name: [run[name] for run in comparison["runs"]] for name in OF_RECOMMENDED}
    for title, own in (("Recommended", rows), ("What differs", comparison["differences"])):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        for name in ("", *runs):
            table.add_column(Text(name), overflow="fold")
        for name, values in own.items():
            table.add_row(Text(name, style="dim"), *(Text(one_line(value)) for value in values))
        if own:
            console.print(table)
    for run, name in zip(comparison["runs"], runs, strict=True):
        for line in (run["conclusion"], *run["missing"]):
            console.print(Text(f"{name}: {one_line(line, 2000)}"))
    for line in comparison["said"]:
        console.print(Text(one_line(line, 2000), style="bold"))

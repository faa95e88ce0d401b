"""How ``search --dry-run`` looks in a terminal."""

from typing import Any

from rich.console import Console
from rich.text import Text

from autocompress.errors import one_line
from autocompress.report.inspection import print_reference, print_strategies, section


def print_dry_run(console: Console, found: dict[str, Any]) -> None:
    """What ``dry_run`` found, a section each."""
    print_reference(console, found, next(iter(found["score"])))
    print_strategies(console, found)
    _rows(console, "What steps take here", _steps(found["takes_s"]))
    _rows(console, f"What fits into {_time_left(found)}, about", _fits(found))
    if found["reach"]["budget"] is not None:
        _rows(console, "Is the budget in reach?", {found["reach"]["budget"]: _reach(found["reach"])})
    console.print()
    for warning in found["warnings"]:
        console.print(Text(one_line(f"warning: {warning}", 2000), "yellow"))
    console.print(Text(f"Nothing was written. The search itself would be in {one_line(found['out'])}."))


def _rows(console: Console, title: str, rows: dict[str, str]) -> None:
    table = section(console, title)
    for name, text in rows.items():
        table.add_row(Text(one_line(name), "dim"), Text(one_line(text, 2000)))
    console.print(table)


def _steps(takes: dict[str, Any]) -> dict[str, str]:
    batch = takes["batch"]
    rows = {
        "opening the task": _seconds(takes["opening"]),
        "a structure, exported": _seconds(takes["structure"]),
        "one comparison": _seconds(takes["comparison"]),
        "a family, untrained": _seconds(takes["family"]),
        "a training step": f"{_seconds(takes['training_step'])}, of {batch} examples" if batch else "-",
    }
    return {**rows, "timed on": takes["tried"]} if takes["tried"] else rows


def _time_left(found: dict[str, Any]) -> str:
    minutes, spent = found["minutes"], found["spent_minutes"]
    if not spent:
        return f"{minutes:g} minutes"
    return f"the {max(0.0, minutes - spent):.3g} minutes that an earlier search left of {minutes:g}"


def _fits(found: dict[str, Any]) -> dict[str, str]:
    fits, takes = found["fits"], found["takes_s"]
    if found["finished"]:
        return {"families tried": "none: the run is finished, and the search prints its result; more --minutes go on"}
    if fits is None and found["reach"]["answer"] == "out of reach":
        return {
            "families tried": "none: nothing meets the budget, and the fastest model is trained and kept as nearest"
        }
    if fits is None:
        return {"families tried": "not known: no family could be made here"}
    rows = {"families tried": str(fits["families"])}
    if takes["training_step"] is not None:
        rows["of them trained"] = (
            f"{fits['trained']}, at first for {_seconds(fits['first_training'])} ({_epochs(fits['first_epochs'])})"
        )
        rows["finalists"] = f"{_seconds(fits['finishing'])} for all at most ({_epochs(fits['full_epochs'])} each)"
    if not fits["families"]:
        rows["too short"] = "nothing but the unchanged model's own files: more --minutes"
    return rows


def _epochs(count: float) -> str:
    return f"{count:.2g} epochs"


def _reach(reach: dict[str, Any]) -> str:
    if reach["met_by"] is not None:
        return f"met before anything is trained, by {reach['met_by'] or 'the model as it is'}"
    if reach["floor_ms"] is None:
        return "not known: no smaller structure could be built"
    floor = f"the fastest model found takes {reach['floor_ms']:.4g} ms ({reach['floor_speedup']:.1f}x)"
    if reach["answer"] == "not known":
        why = (
            "too near, or timed on too busy a machine, to tell"
            if reach["complete"]
            else "the search has time to look at more of them"
        )
        return f"not known: {floor}; {why}"
    if reach["answer"] == "out of reach":
        return f"no: {floor}; give a budget above that, another --space or another --profile"
    return f"yes: {floor}"


def _seconds(value: float | None) -> str:
    """With the unit in which it is easily read."""
    if value is None:
        return "-"
    if value < 1:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"

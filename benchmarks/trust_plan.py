"""Which searches benchmarks/trust_searches.py runs, and with which budget each."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from trust_rows import KEY, MAX_DROP, Row, key_of

from autocompress.errors import UsageError

MODES = "share", "hold", "drop"
BUDGETS = "speedup", "ms"
MINUTES = {"share": (1.0, 3.0, 10.0), "hold": (3.0,), "drop": (3.0,)}
SPEEDUPS: Mapping[str, Sequence[float]] = {
    "digits": (3.0, 2.0, 4.0, 6.0)
}  # of each task, the one of "share" first; of any other task OTHERS
OTHERS: Sequence[float] = 2.0, 4.0


def planned(
    modes: Sequence[str],
    tasks: Sequence[str],
    minutes: Mapping[str, Sequence[float]],
    states: Sequence[str],
    speedups: Sequence[float] | None,
    seeds: int,
    budgets: Sequence[str] = BUDGETS,
) -> Iterator[Row]:
    """What tells each row from the others. The searches with a speed-up come before those with milliseconds, which
    follow from the reference that they timed.
    """
    for mode in modes:
        kinds = budgets if mode == "hold" else BUDGETS[:1]
        for budget, state, task, length in product(kinds, states, tasks, minutes[mode]):
            known = speedups or SPEEDUPS.get(task, OTHERS)
            for speedup, seed in product(known[:1] if mode == "share" else known, range(seeds)):
                yield dict(zip(KEY, (mode, task, length, state, budget, speedup, seed), strict=True))


def asked(what: Row, rows: Sequence[Row]) -> list[str]:
    """The budget of a search, as options. rows: those that are known, which say what the reference takes."""
    if what["budget"] == "speedup":
        options = ["--speedup", f"{what['speedup']:g}"]
    else:
        taken = [r["reference_ms"] for r in rows if r.get("task") == what["task"] and r.get("reference_ms")]
        if not taken:
            raise UsageError(f"no search of {what['task']} has said yet what its reference takes")
        options = ["--budget-ms", f"{sorted(taken)[len(taken) // 2] / what['speedup']:.3g}"]
    return [*options, "--max-drop", f"{MAX_DROP:g}"] if what["mode"] == "drop" else options


def run_name(what: Row) -> str:
    """Of the folder and the log of a search."""
    parts = [f"{value:g}" if isinstance(value, float) else str(value) for value in key_of(what)]
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))

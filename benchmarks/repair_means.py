"""The columns of the tables and plots of ``benchmarks/repair.py curves``."""

import statistics
from collections.abc import Sequence
from typing import Any

COLUMNS = ("l2", "l2, norms", "l2, repaired", "surgeon, norms", "surgeon, repaired")

Row = dict[str, Any]


def means(rows: Sequence[Row], ratio: float) -> dict[str, float]:
    """Score by column, the mean over the seeds; without those that have no structure of this ratio."""
    kinds = {"": "as_pruned", "norms": "norms", "repaired": "repaired"}
    found: dict[str, float] = {}
    for column in COLUMNS:
        importance, _, kind = column.partition(", ")
        own = [row[kinds[kind]] for row in rows if (row["importance"], row["ratio"]) == (importance, ratio)]
        if own:
            found[column] = statistics.mean(own)
    return found

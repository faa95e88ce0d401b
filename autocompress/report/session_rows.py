"""Every timing session of a run as texts: the file beside the reference, and what the machine did meanwhile; and the
blocks of some of them.
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autocompress.comparison import TimingSession, TimingSessions
from autocompress.machine.quiet import FASTEST, quiet
from autocompress.report.over_time import duration
from autocompress.report.points import shown_digits

BLOCKS_COLUMN = "blocks in order"  # drawn by the page
SESSION_COLUMNS = (
    *(
        "at",
        "file p50, ms",
        "reference, ms",
        "speed-up",
        BLOCKS_COLUMN,
        "over all blocks",
        "quiet blocks",
        "reference slowed",
    ),
    *("load", "stolen", "switches/s", "throttled"),
)


MOST_DRAWN = 150  # blocks of a session; a busy one may have many more


def session_rows(
    sessions: Mapping[str, TimingSessions], drawn: Collection[str] = (), stored: Path = Path()
) -> dict[str, Any]:
    """``rows``: of each graph that was timed, in the order of ``SESSION_COLUMNS``; ``files``: which of these a file
    has, by its id. Files of one graph share their sessions. ``blocks``: of the files ``drawn``, by id, what each of
    their sessions recorded, to be drawn in the column ``drawn_at``; None where that is not in the store any more.
    """
    began = min((s.at_s for of_one in sessions.values() for s in of_one), default=0.0)
    graphs: dict[TimingSessions, int] = {}
    files = {name: graphs.setdefault(of_one, len(graphs)) for name, of_one in sessions.items() if of_one}
    wanted = {files[name] for name in drawn if name in files}
    blocks = [[_blocks(s, stored) for s in of_one] if graph in wanted else [] for graph, of_one in enumerate(graphs)]
    rows = [[_row(s, began) for s in of_one] for of_one in graphs]
    return {"rows": rows, "files": files, "blocks": blocks, "drawn_at": SESSION_COLUMNS.index(BLOCKS_COLUMN)}


def _blocks(s: TimingSession, stored: Path) -> dict[str, Any] | None:
    """The median of each block in per cent of the fastest in the session, of the file and of the reference around it,
    and which were quiet; the first of very many.
    """
    from autocompress.storage.recorded_blocks import load_blocks
    from autocompress.storage.store import Store

    found = load_blocks(Store(stored), s.raw) if s.raw else None
    if found is None:
        return None
    own = np.array([np.median(block) for block in found.candidate])
    were_quiet = quiet(found.reference, s.fastest) if s.quiet else np.zeros(len(own), bool)
    return {
        "own": _percent(own)[:MOST_DRAWN],
        "reference": _percent(found.reference)[: MOST_DRAWN + 1],
        "quiet": "".join("01"[int(one)] for one in were_quiet[:MOST_DRAWN]),
    }


def _percent(medians: "np.typing.NDArray[np.float64]") -> list[int]:
    return [round(value) for value in (100 * medians / np.percentile(medians, FASTEST)).tolist()]


def _row(s: TimingSession, began: float) -> list[str]:
    machine = s.conditions
    return [
        duration(s.at_s - began),
        shown_digits(s.p50),
        shown_digits(s.reference),
        f"{math.exp(-s.log_ratio):.2f}×" + (" (busy)" if s.busy else ""),
        "",
        f"{math.exp(-s.log_ratio_of_all):.2f}×",
        f"{s.quiet} of {s.blocks}",
        f"{s.slowed:.2f}×" if s.slowed else "-",
        f"{machine.load:.1f}",
        f"{100 * machine.stolen:.0f} %",
        f"{machine.switches:.0f}",
        f"{100 * max(machine.throttled, machine.gpu_throttled):.0f} %",
    ]

"""Every timing session of a run as texts: the file beside the reference, and what the machine did meanwhile."""

import math
from collections.abc import Mapping
from typing import Any

from autocompress.comparison import TimingSession, TimingSessions
from autocompress.report.over_time import duration
from autocompress.report.points import shown_digits

SESSION_COLUMNS = (
    *("at", "file p50, ms", "reference, ms", "speed-up", "over all blocks", "quiet blocks", "reference slowed"),
    *("load", "stolen", "switches/s", "throttled"),
)


def session_rows(sessions: Mapping[str, TimingSessions]) -> dict[str, Any]:
    """``rows``: of each graph that was timed, in the order of ``SESSION_COLUMNS``; ``files``: which of these a file
    has, by its id. Files of one graph share their sessions.
    """
    began = min((s.at_s for of_one in sessions.values() for s in of_one), default=0.0)
    graphs: dict[TimingSessions, int] = {}
    files = {name: graphs.setdefault(of_one, len(graphs)) for name, of_one in sessions.items() if of_one}
    return {"rows": [[_row(s, began) for s in of_one] for of_one in graphs], "files": files}


def _row(s: TimingSession, began: float) -> list[str]:
    machine = s.conditions
    return [
        duration(s.at_s - began),
        shown_digits(s.p50),
        shown_digits(s.reference),
        f"{math.exp(-s.log_ratio):.2f}×" + (" (busy)" if s.busy else ""),
        f"{math.exp(-s.log_ratio_of_all):.2f}×",
        f"{s.quiet} of {s.blocks}",
        f"{s.slowed:.2f}×" if s.slowed else "-",
        f"{machine.load:.1f}",
        f"{100 * machine.stolen:.0f} %",
        f"{machine.switches:.0f}",
        f"{100 * max(machine.throttled, machine.gpu_throttled):.0f} %",
    ]

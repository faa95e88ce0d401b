"""What a search shows: a live view in a terminal, plain lines otherwise, and the final table."""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autocompress.errors import one_line
from autocompress.evaluation import Evaluation
from autocompress.explore.opening.opening import Opening
from autocompress.explore.space.space import Space
from autocompress.explore.standings.front import SCORE_SPAN
from autocompress.explore.standings.standings import Standings
from autocompress.plugin.observer import Phase
from autocompress.report import explain
from autocompress.report.explanation import explanation
from autocompress.score_scale import ScoreScale
from autocompress.storage.front import MODEL, REPORT, candidate_of, folder_of
from autocompress.supervisor import tell_nobody

REFRESH_S = 0.25
PLAIN_EVERY_S = 15.0
MEASURING = "measure"


def teller(console: Console, quiet: bool) -> Callable[[str], None]:
    """Shows a line to a user who wants to see any."""
    return tell_nobody if quiet else partial(console.print, markup=False, soft_wrap=True)


class TerminalView:
    """Shows progress on ``console``. While a latency is measured nothing is redrawn."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._live: Live | None = None
        self._workers: dict[int, tuple[str, float | None]] = {0: ("start", None)}  # what each worker does
        self._standings: Standings | None = None
        self._left_s, self._at = 0.0, time.monotonic()
        self._drawn = 0.0
        self._said = ""
        self._lock = threading.RLock()

    def __enter__(self) -> "TerminalView":
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None

    def phase(self, name: Phase) -> None:
        """Said by what the workers do."""

    def opened(self, opening: Opening, space: Space) -> None:
        reference = opening.reference
        self.note(
            f"{opening.name}: {opening.metric} {opening.scale.scored(reference.score)}, "
            f"p50 {reference.latency.p50:.4g} ms, "
            f"p90 {reference.latency.p90:.4g} ms, {reference.params:,} parameters, {reference.macs / 1e6:.4g} M MACs"
        )
        faster = sorted(opening.reference_family.evaluations, key=lambda e: e.latency.ratio)
        for e in faster:
            self.note(
                f"unchanged, {e.recipe.techniques()}: {opening.scale.scored(e.score)} at {1 / e.latency.ratio:.2f}x"
            )
        names = list(dict.fromkeys([*(a.name for a in space.families), *space.graph]))
        self.note(f"strategies: {', '.join(names)}")
        size_only = [a.name for a in opening.applicable if a.size_only and a.name not in names]
        if size_only:
            self.note(
                f"left out, they save size and no time here: {', '.join(size_only)} (a search space that names them "
                "has them, such as --space smallest)"
            )
        for refusal in opening.refused:
            self.note(f"not here: {refusal.strategy}: {refusal.reason}")
        for warning in opening.warnings:
            self.note(f"warning: {warning}")

    def note(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(Text(one_line(text, 2000)), soft_wrap=not self._console.is_terminal)

    def doing(self, text: str, fraction: float | None, worker: int = 0) -> None:
        """What a worker does now; an empty text is a tick of the clock. May be called from several threads."""
        with self._lock:
            new = bool(text) and text != self._workers.get(worker, ("", None))[0]
            if text:
                self._workers[worker] = text, fraction
            self._draw(new)

    def status(self, standings: Standings, left_s: float) -> None:
        with self._lock:
            self._standings, self._left_s, self._at = standings, left_s, time.monotonic()
            if self._live is None and not self._quiet and time.monotonic() - self._drawn >= PLAIN_EVERY_S:
                line = self._summary()
                if line != self._said:
                    self._said, self._drawn = line, time.monotonic()
                    self._console.print(Text(line), soft_wrap=True)
            self._draw()

    def _draw(self, at_once: bool = False) -> None:
        late = at_once or time.monotonic() - self._drawn >= REFRESH_S
        if self._live is None or not late or any(doing == MEASURING for doing, _ in self._workers.values()):
            return
        self._drawn = time.monotonic()
        now = Table.grid(padding=(0, 1))
        now.add_column(no_wrap=True, overflow="ellipsis", width=max(20, self._console.width - 28))
        now.add_column(width=24)
        for _, (doing, fraction) in sorted(self._workers.items()):
            now.add_row(
                Text(doing), ProgressBar(total=1, completed=fraction, width=24) if fraction is not None else Text("")
            )
        self._live.update(Group(now, Text(self._summary())), refresh=True)

    def _summary(self) -> str:
        if self._standings is None:
            return ""
        standings = self._standings
        left = max(0.0, self._left_s - (time.monotonic() - self._at))
        said = self._best(standings) if standings.steering.bounded else self._front(standings)
        families = standings.families.values()
        trained = sum(1 for family in families if family.trained)
        return (
            f"{len(families)} tried, {trained} trained, {len(standings.rejected)} rejected, "
            f"{len(standings.failed)} failed · {int(left // 60)}:{int(left % 60):02d} left\n{said}"
        )

    def _best(self, standings: Standings) -> str:
        best = standings.best_feasible()
        return (
            f"best so far {_at(standings, best)} ({best.recipe.techniques()})" if best else "none meets the budget yet"
        )

    def _front(self, standings: Standings) -> str:
        """Without a budget what counts is the front, as far as it loses less than everything."""
        least = standings.opening.reference.score.val - SCORE_SPAN
        front = [e for e in standings.front() if e.score.val > least and e.id != "reference"]
        if not front:
            return "nothing is faster than the reference yet"
        ends = dict.fromkeys(_at(standings, e) for e in (front[-1], front[0]))
        return f"front of {len(front)} so far: {' to '.join(ends)}"


def print_front(console: Console, document: dict[str, Any], out: str) -> None:
    """The front as a table, fastest last, and the conclusion in one sentence."""
    scale = ScoreScale.of(document)
    task, profile = (escape(one_line(document[key], 80)) for key in ("task", "profile"))
    table = Table(
        title=f"Pareto front of {task} on {profile}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    narrow, statistic = console.width < 100, document["budget"]["statistic"]
    asked = f"{statistic} ms" if document["budget"]["latency_ms"] else "p50 ms"
    left_out = {"size kB", "p50 ms", f"{statistic} ms"} - {asked} if narrow else set()
    figures: dict[str, Callable[[dict[str, Any]], str]] = {
        "test": lambda c: scale.text(c["score"]["test"]),
        "p50 ms": lambda c: f"{explain.shown_ms(c, document, 'p50'):.4g}",
        f"{statistic} ms": lambda c: f"{explain.statistic_ms(c, document):.4g}",
        "speed-up\n(p50)": lambda c: f"{1 / c['latency_ms']['ratio']:.2f}x",
        "size kB": lambda c: f"{c['size_bytes'] / 1000:,.0f}",
        "precision": lambda c: c.get("precision") or "-",
    }
    shown = {name: tell for name, tell in figures.items() if name not in left_out}
    table.add_column()
    for name in (one_line(scale.metric, 40), *shown):  # a metric may be called as a figure is
        table.add_column(Text(name), justify="left" if name == "precision" else "right", no_wrap=True)
    table.add_column("recipe", overflow="fold")
    front = sorted(
        (c for c in document["candidates"] if c["on_front"] or c["id"] == document["recommended"]),
        key=lambda c: -c["latency_ms"]["ratio"],
    )
    for c in front:
        cells = [_mark(c, document), scale.text(c["score"]["val"]), *(tell(c) for tell in shown.values())]
        bold = "bold" if c["id"] == document["recommended"] else ""
        table.add_row(*(Text(cell, style=bold) for cell in cells), Text(explain.techniques(c), style=bold))
    console.print(table)
    console.print(Text("→ recommended   ✓ meets the budget   ? undecided", style="dim"))
    console.print(Text(explain.reference_text(document), style="dim"))
    said = explain.slack(document)
    if said:
        console.print(Text(said))
    console.print(Text(explain.conclusion(document), style="bold"))
    why = explanation(document)
    for line in (*why.get("together", ()), *why.get("without", ())):
        console.print(Text(line))
    for line in document.get("would_help", ()):
        console.print(Text(line))
    for line in document.get("advice", ()):
        console.print(Text(f"machine: {line}", style="dim"))
    for more in (
        explain.whom_it_hurts(document),
        explain.examples_that_changed(document),
        explain.where_time_goes(document),
        explain.smallest(document),
        explain.scores_hold(document),
    ):
        if more:
            console.print(Text(more))
    chosen = candidate_of(document, document["recommended"] or document["nearest"])
    if chosen and not chosen["fidelity"] and (few := explain.few_rows(document)):
        console.print(Text(few, style="dim"))
    role = "To deploy" if document["recommended"] else "The nearest, not known to meet the budget"
    for said in (
        f"{role}: {out}/{folder_of(document)}/{MODEL}",
        f"To look at: {out}/{REPORT}",
        f"Why this one: autocompress explain {out}",
    ):
        console.print(Text(said), soft_wrap=True)  # a path is whole, to be copied


def _mark(candidate: dict[str, Any], document: dict[str, Any]) -> str:
    if candidate["id"] == document["recommended"]:
        return "→"
    if candidate["feasible"]:
        return "✓"
    answers = explain.answers(candidate)
    return "?" if "undecided" in answers and "not met" not in answers else ""


def _at(standings: Standings, evaluation: Evaluation) -> str:
    return f"{standings.opening.scale.scored(evaluation.score)} at {1 / evaluation.latency.ratio:.2f}x"

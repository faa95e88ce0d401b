"""What a search found, as a program and a notebook take it: made from ``front.json`` alone."""

from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from autocompress.measured_file import MeasuredFile
from autocompress.report import explain
from autocompress.report.chart import front_figure
from autocompress.report.explanation import explanation
from autocompress.report.html import front_table
from autocompress.report.observed_view import front_files
from autocompress.report.points import points_of
from autocompress.storage.front import MODEL, candidate_of, chosen, folder_of
from autocompress.storage.recovery import read_run


@dataclass(frozen=True, repr=False)
class SearchResult:
    """One finished search. A notebook shows it as a table of the front.

    folder: of the run. document: the content of its ``front.json``.
    """

    folder: Path
    document: explain.Document = field(hash=False)

    @property
    def status(self) -> str:
        """``feasible`` when a file is recommended, else ``infeasible``."""
        return str(self.document["status"])

    @cached_property
    def candidates(self) -> tuple[MeasuredFile, ...]:
        """Every file that was measured and scored, the reference first."""
        return tuple(map(MeasuredFile.of, self.document["candidates"]))

    @cached_property
    def front(self) -> tuple[MeasuredFile, ...]:
        """The files that nothing dominates in score and latency, the fastest first."""
        return front_files(self.document["candidates"])

    @cached_property
    def reference(self) -> MeasuredFile:
        """The model as it came."""
        reference = self.document["reference"]
        of_it = (c for c in self.document["candidates"] if c["artifact"] == reference["artifact"])
        return MeasuredFile.of(next(of_it, reference))

    @cached_property
    def recommended(self) -> MeasuredFile | None:
        """The file to deploy; None when none is known to keep the budget, or none that does is worth having."""
        return self._file("recommended")

    @cached_property
    def nearest(self) -> MeasuredFile | None:
        """Where none is recommended, what comes nearest to the budget."""
        return self._file("nearest")

    @property
    def model(self) -> Path | None:
        """The ONNX file that was delivered, with its recipe beside it: the recommended one, or the nearest."""
        return self.folder / folder_of(self.document) / MODEL if chosen(self.document) else None

    @property
    def conclusion(self) -> str:
        """In one sentence what was chosen and why, or that nothing meets the budget and what came nearest."""
        return explain.conclusion(self.document)

    @property
    def explanation(self) -> dict[str, list[str]]:
        """Sentences by what they are about, as ``autocompress explain`` says them: each technique alone, together, what
        leaving one out costs, what else was close.
        """
        return explanation(self.document)

    def plot(self) -> Any:
        """The front and all other files, score over latency: a ``plotly.graph_objects.Figure``."""
        return front_figure(self.document, points_of(self.document))

    def __repr__(self) -> str:
        found = self.recommended or self.nearest
        role = "recommended" if self.recommended else "nearest"
        said = f", {role} {found.techniques} at {found.speedup:.2f}x" if found else ""
        counts = f"{len(self.candidates)} files, {len(self.front)} on the front"
        return f"SearchResult({str(self.folder)!r}: {self.status}, {counts}{said})"

    def _repr_html_(self) -> str:
        return front_table(self.document)

    def _file(self, role: str) -> MeasuredFile | None:
        candidate = candidate_of(self.document, self.document[role])
        return None if candidate is None else MeasuredFile.of(candidate)


def load_result(run: str | Path) -> SearchResult:
    """The result of a search that ended, as ``search`` returned it. run: its folder. Where a kill left the delivered
    model and ``front.json`` disagreeing it is made again, which is said.

    Raises UsageError when there is none, or one that another version wrote.
    """
    root = Path(run)
    return SearchResult(root, read_run(root, partial(Console(stderr=True).print, markup=False, soft_wrap=True)))

"""A run's record, read for a report: from the search itself, or from a copy of what lies in its folder."""

import sqlite3
import tempfile
from collections.abc import Collection, Sequence
from functools import reduce
from pathlib import Path
from urllib.parse import quote

from optuna.trial import FrozenTrial

from autocompress.errors import UsageError, one_line
from autocompress.explore.history.facts import Evaluated, Fact, fact_from_json
from autocompress.explore.history.history import recorded_facts
from autocompress.explore.opening.identity import refuse_another_version
from autocompress.explore.opening.opening import EarlierOpening, Opening
from autocompress.explore.progress import Progress
from autocompress.explore.standings.measurements import Measurements
from autocompress.report.importances import choice_importances
from autocompress.report.recorded import Recorded
from autocompress.storage.record import open_record


def recorded_of(
    opening: Opening | EarlierOpening,
    facts: Sequence[Fact],
    trials: Sequence[FrozenTrial],
    compressing: Collection[str],
) -> Recorded:
    """Of a search, running or read again. compressing: as ``front.json`` says."""
    measured = reduce(Measurements.after, facts, Measurements.of(opening))
    outcomes = [fact.outcome for fact in facts if isinstance(fact, Evaluated)]
    families = (opening.reference_family, *outcomes)
    files = [opening.reference, *(file for family in families for file in family.evaluations)]
    ended = [(fact_from_json(trial.user_attrs), trial) for trial in trials]
    return Recorded(
        {file.id: measured.graphs.get(file.graph, ()) for file in files},
        choice_importances(ended, compressing),
        opening.prepared.parts,
        {e.number: e.picture for changed in measured.by_example.values() for e in changed.most if e.picture},
    )


def read_recorded(study: Path, compressing: Collection[str]) -> Recorded:
    """Of a run folder, from a copy of its record, which a search may be writing; without any of it, why."""
    if not study.exists():
        return Recorded(why=f"{study.name} is missing")
    try:
        with tempfile.TemporaryDirectory(prefix="autocompress-") as scratch:
            copy = Path(scratch) / study.name
            _copy(study, copy)
            return _read(copy, compressing)
    except (UsageError, sqlite3.Error, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        return Recorded(why=f"{study.name} cannot be read ({_said(error)})")


def _copy(study: Path, copy: Path) -> None:
    logged = study.with_name(f"{study.name}-wal").exists()  # by a search that runs, or was killed
    how = "mode=ro" if logged else "mode=ro&immutable=1"  # which leaves no file beside it
    source = sqlite3.connect(f"file:{quote(str(study.resolve()))}?{how}", uri=True)
    target = sqlite3.connect(copy)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()


def _read(copy: Path, compressing: Collection[str]) -> Recorded:
    record = open_record(copy)
    try:
        progress = Progress(record)
        refuse_another_version(progress)
        if progress.opening is None:
            raise UsageError("its task was never opened")
        opening = EarlierOpening.from_json(progress.opening)
        return recorded_of(opening, recorded_facts(record), record.trials(), compressing)
    finally:
        record.close()


def _said(error: Exception) -> str:
    """Without the path of the copy, nor what to do about a search."""
    text = one_line(error, 200) if isinstance(error, UsageError) else f"{type(error).__name__}: {one_line(error, 120)}"
    return text.partition(": move it away")[0].partition(": finish it")[0].rpartition("study.db ")[2]

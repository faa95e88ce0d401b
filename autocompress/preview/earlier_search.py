"""What an earlier search left in the run folder: its time, and what it was asked for."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from autocompress.errors import UsageError
from autocompress.explore.opening.identity import Settings, refuse_another_version, settings_json
from autocompress.explore.progress import Progress
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import open_record


@dataclass(frozen=True)
class EarlierSearch:
    """What the run folder holds. spent_s: seconds of its time; finished: whether the same command prints its result."""

    progress: Progress | None = None
    spent_s: float = 0.0
    finished: bool = False


def earlier_search(settings: Settings, copies: Path) -> EarlierSearch:
    """Of the run folder, from a copy of its record. copies: a folder to be made for that. Raises UsageError for a
    record that no search of this version goes on with.
    """
    study = RunFolder(settings.out).study
    if not study.exists():
        return EarlierSearch()
    copies.mkdir()
    for part in (study, study.with_name(f"{study.name}-wal")):  # which a killed search leaves
        if part.exists():
            shutil.copyfile(part, copies / part.name)
    try:
        record = open_record(copies / study.name)
        try:
            progress = Progress(record)
            refuse_another_version(progress)
        finally:
            record.close()
    except UsageError as error:
        raise UsageError(str(error).replace(str(copies / study.name), str(study))) from error
    finished = progress.finished == settings_json(settings) and RunFolder(settings.out).front.exists()
    return EarlierSearch(progress, progress.elapsed_s, finished)

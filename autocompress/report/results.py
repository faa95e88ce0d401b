"""What a run leaves: front.json with the model it names, and the report."""

from dataclasses import asdict
from typing import Any

from autocompress.compute.operations import WorkerOperations
from autocompress.explore.clock.clock import Clock
from autocompress.explore.driver import Search
from autocompress.explore.opening.identity import Settings
from autocompress.measure import machine
from autocompress.plugin.loader import PluginSet
from autocompress.report.document import Circumstances, front_document
from autocompress.report.html import write_report
from autocompress.storage.delivery import commit
from autocompress.storage.folder import RunFolder
from autocompress.supervisor import MEASURE_BESIDE


def write_results(
    search: Search,
    settings: Settings,
    folder: RunFolder,
    plugins: PluginSet,
    clock: Clock,
    operations: WorkerOperations,
) -> dict[str, Any]:
    """Write the front of a search as it stands; the document of ``front.json``."""
    found, standings = machine(), search.standings
    environment = {
        **standings.opening.prepared.versions,
        "profile": settings.profile.model_dump(mode="json"),
        "machine": {**asdict(found), "instructions": list(found.instructions)},
        "plugins": dict(sorted(plugins.origin.items())),
        "int8_strategies": sorted(name for name, own in plugins.strategies.items() if own.precision == "int8"),
    }
    around = Circumstances(
        settings.profile,
        settings.seed,
        environment,
        clock.elapsed(),
        _spent_s(clock, operations),
        settings.minutes,
        search.floor,
        search.full_epochs,
    )
    document = commit(folder, front_document(standings, around))
    write_report(document, folder.report)
    return document


def _spent_s(clock: Clock, operations: WorkerOperations) -> dict[str, float]:
    """Seconds of all workers since this process began, by what they went into: the rest, when one had nothing to do or
    the driver made up its mind, is "driver". What was measured while workers computed is beside that.
    """
    spent = operations.spent()
    all_s = operations.concurrency * clock.since_start()
    workers_s = sum(seconds for name, seconds in spent.items() if name != MEASURE_BESIDE)
    return {**spent, "driver": max(0.0, all_s - workers_s)}

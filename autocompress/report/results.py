"""What a run leaves: front.json with the model it names, and the report."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autocompress.compute.operations import WorkerOperations
from autocompress.errors import CandidateFailed, one_line
from autocompress.explore.clock.clock import Clock
from autocompress.explore.driver import Search
from autocompress.explore.opening.identity import Settings
from autocompress.machine.conditions import machine
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.report.card import model_card
from autocompress.report.document import Circumstances, front_document
from autocompress.report.html import write_report
from autocompress.report.record_reading import recorded_of
from autocompress.storage.atomic import copy_file
from autocompress.storage.delivery import commit
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import chosen
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
        **({"device": settings.device} if settings.device else {}),
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
    document = front_document(standings, around)
    document["artifacts"], said = _written_for_the_target(document, settings.profile, folder, plugins)
    document["warnings"] += said
    document = commit(folder, document, model_card(document))
    history = search.history
    recorded = recorded_of(standings.opening, history.facts, history.trials, document["compressing"])
    write_report(document, folder.report, recorded)
    return document


def _written_for_the_target(
    document: dict[str, Any], profile: HardwareProfile, folder: RunFolder, plugins: PluginSet
) -> tuple[list[str], list[str]]:
    """Write the model that a document names in its runtime's own format, beside the ONNX file. The names of the files,
    and why there are none where that fails.
    """
    candidate, runtime = chosen(document), plugins.runtime(profile.runtime)
    if candidate is None:
        return [], []
    model = folder.root / candidate["artifact"]
    with tempfile.TemporaryDirectory(prefix="autocompress-") as scratch:
        try:
            written = runtime.artifact(model, profile, Path(scratch) / model.stem)
            for path in written:
                copy_file(path, model.with_name(path.name))
        except Exception as error:  # whatever a runtime raises, the ONNX file is there
            reason = error.reason if isinstance(error, CandidateFailed) else f"{type(error).__name__}: {error}"
            return [], [f"{profile.runtime}: the model is delivered as ONNX alone: {one_line(reason, 200)}"]
    return [path.name for path in written], []


def _spent_s(clock: Clock, operations: WorkerOperations) -> dict[str, float]:
    """Seconds of all workers since this process began, by what they went into: the rest, when one had nothing to do or
    the driver made up its mind, is "driver". What was measured while workers computed is beside that.
    """
    spent = operations.spent()
    all_s = operations.concurrency * clock.since_start()
    workers_s = sum(seconds for name, seconds in spent.items() if name != MEASURE_BESIDE)
    return {**spent, "driver": max(0.0, all_s - workers_s)}

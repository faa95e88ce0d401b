"""The recommended model of a finished run once more, in this process: its time, and its loss on the test split."""

from pathlib import Path
from typing import Any

import torch

from autocompress.commands.verify import recorder, reference_timing
from autocompress.data import KeptOutputs, ScoredSet, output_layout
from autocompress.data.loading import open_split
from autocompress.measure import latency_of, outputs_of
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile
from autocompress.storage.front import MODEL, RECOMMENDED, read_front
from autocompress.task_source import load_task

DIGITS = "autocompress.demo.digits:task"


def _files(out: Path) -> tuple[Path, Path, HardwareProfile]:
    document = read_front(out)
    profile = HardwareProfile.model_validate(document["environment"]["profile"])
    return out / RECOMMENDED / MODEL, out / document["reference"]["artifact"], profile


def once_more(out: Path) -> dict[str, Any]:
    """One session of the recommended model of a run beside its reference, in this process. How fast the reference is on
    this processor is known, as in ``verify``.
    """
    known = reference_timing(read_front(out))
    session = recorder(*_files(out), known)()
    ratio = latency_of([session], known).ratio
    return {"ratio": ratio, "statistic": session.statistic, "busy": session.busy}


def paired_on_test(out: Path, target: str) -> dict[str, Any]:
    """Points that the recommended model of a run loses on the test split, and the standard error of that, in pairs."""
    task = load_task(DIGITS if target == "digits" else target)
    if task.test is None:
        return {}
    path, reference, profile = _files(out)
    test, runtime = open_split("test", task.test, task.batch), load_plugins().runtime(profile.runtime)

    layout = output_layout(task, task.copy_of_model(), test.take(torch.arange(min(2, len(test)))))
    examples = ScoredSet(task, test, layout)

    def kept(file: Path) -> KeptOutputs:
        found = outputs_of(lambda: runtime.open(file, profile), test, profile.batch, layout)
        return examples.kept((rows, batch.targets) for batch, rows in found)

    loss, error = examples.difference(kept(reference), kept(path))
    return {"test_loss": 100 * loss, "test_error": 100 * error}

"""``verify``: a finished run measured again."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from autocompress.commands.measure import RANDOM_FEEDS, random_feed
from autocompress.errors import UsageError
from autocompress.latency import Latency
from autocompress.measure import FINAL, measure, timer
from autocompress.plugin.contract import Runtime
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile
from autocompress.storage.front import MODEL, RECOMMENDED, candidate_of
from autocompress.storage.onnx_file import read_onnx
from autocompress.storage.recovery import Say, read_run
from autocompress.supervisor import tell_nobody

RATIO_TOLERANCE = 0.15  # verify: how far a ratio may move between two measurements


def verify_run(root: Path, say: Say = tell_nobody) -> dict[str, Any]:
    """Time the recommended model of a run beside its reference again. ``holds`` is False when the budget is no
    longer met, or the ratio moved by more than 15 %. say: told which files were made whole before.
    """
    document = read_run(root, say)
    chosen = candidate_of(document, document["recommended"])
    if chosen is None:
        raise UsageError(f"{root} recommends nothing, so there is nothing to verify")
    profile = HardwareProfile.model_validate(document["environment"]["profile"])
    runtime = load_plugins().runtime(profile.runtime)
    path, reference = root / RECOMMENDED / MODEL, root / document["reference"]["artifact"]
    for file in (path, reference):
        if not file.exists():
            raise UsageError(f"{file} is missing: run the search again with --out {root}")
        read_onnx(file)
    latency = _beside(runtime, profile, path, reference)
    budget, recorded = document["budget"], chosen["latency_ms"]["ratio"]
    problems = []
    if budget["latency_ms"] and latency.statistic > budget["latency_ms"]:
        problems.append(f"takes {latency.statistic:.4g} ms, the budget is {budget['latency_ms']:g} ms")
    if budget["speedup"] and latency.ratio_low * budget["speedup"] > 1:
        problems.append(f"is {1 / latency.ratio:.2f}x faster, the budget is {budget['speedup']:g}x")
    if abs(latency.ratio / recorded - 1) > RATIO_TOLERANCE:
        problems.append(f"has ratio {latency.ratio:.3f}, the run says {recorded:.3f}")
    if not latency.reliable:
        problems.append("cannot be timed reliably now: the machine is busy")
    return {
        "run": str(root),
        "holds": not problems,
        "problems": problems,
        "latency_ms": asdict(latency),
        "recorded_ratio": recorded,
    }


def _beside(runtime: Runtime, profile: HardwareProfile, path: Path, reference: Path) -> Latency:
    feeds = [random_feed(path, profile, seed) for seed in range(RANDOM_FEEDS)]
    one, other = (timer(runtime, runtime.open(file, profile), feeds) for file in (path, reference))
    return measure(one, other, profile, effort=FINAL)

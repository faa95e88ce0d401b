"""``verify``: a finished run measured again."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autocompress.commands.measure import random_feeds
from autocompress.comparison import TimingSession
from autocompress.errors import UsageError
from autocompress.measure import LOOKS, Sessions, ms_verdict, pooled, ratio_of, ratio_verdict
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile
from autocompress.storage.front import MODEL, RECOMMENDED, candidate_of
from autocompress.storage.onnx_file import read_onnx
from autocompress.storage.recovery import Say, read_run
from autocompress.supervisor import tell_nobody
from autocompress.verdict import Verdict

RATIO_TOLERANCE = 0.15  # how far a ratio may be from the one that the run says
RecordPair = Callable[[], TimingSession]


def verify_run(root: Path, say: Say = tell_nobody) -> dict[str, Any]:
    """Time the recommended model of a run beside its reference again, in sessions of its own. ``holds`` is False when a
    claim is not met: the budget, or a ratio within 15 % of the one that the run says. What cannot be decided is listed.
    say: told which files were made whole before. Raises UsageError.
    """
    document = read_run(root, say)
    chosen = candidate_of(document, document["recommended"])
    if chosen is None:
        raise UsageError(f"{root} recommends nothing, so there is nothing to verify")
    profile = HardwareProfile.model_validate(document["environment"]["profile"])
    path, reference = root / RECOMMENDED / MODEL, root / document["reference"]["artifact"]
    for file in (path, reference):
        if not file.exists():
            raise UsageError(f"{file} is missing: run the search again with --out {root}")
        read_onnx(file)
    recorded = chosen["latency_ms"]["ratio"]
    record = recorder(path, reference, profile)
    sessions: list[TimingSession] = []
    for look in LOOKS:
        while len(sessions) < look:
            sessions.append(record())
        claims = judged(sessions, document["budget"], recorded)
        if all(verdict.decided for verdict in claims.values()):
            break
    estimate = ratio_of(sessions, pooled([[session.log_ratio for session in sessions]]))
    return {
        "run": str(root),
        "holds": all(verdict.answer != "not met" for verdict in claims.values()),
        "problems": [f"{claim}: {v.reason}" for claim, v in claims.items() if v.answer == "not met"],
        "undecided": [f"{claim}: {v.reason}" for claim, v in claims.items() if not v.decided],
        "ratio": estimate.ratio,
        "ratio_low": estimate.low,
        "ratio_high": estimate.high,
        "recorded_ratio": recorded,
        "statistic_ms": sorted(session.statistic for session in sessions)[len(sessions) // 2],
        "sessions": len(sessions),
        "busy_sessions": estimate.busy,
    }


def judged(sessions: Sequence[TimingSession], budget: dict[str, Any], recorded: float) -> dict[str, Verdict]:
    """What the run says of its recommended model, each claim with its verdict. recorded: the ratio that it says."""
    ratios = pooled([[session.log_ratio for session in sessions]])
    estimate = ratio_of(sessions, ratios)
    low, high = recorded * (1 - RATIO_TOLERANCE), recorded * (1 + RATIO_TOLERANCE)
    now = f"{estimate.ratio:.3f} now, the run says {recorded:.3f}"
    if low <= estimate.low and estimate.high <= high:
        moved = Verdict("met", now)
    else:
        moved = Verdict("not met" if estimate.high < low or high < estimate.low else "undecided", now)
    claims = {"ratio": moved}
    if budget["speedup"]:
        claims["speedup"] = ratio_verdict(sessions, ratios, 1 / budget["speedup"])
    if budget["latency_ms"]:
        spread = pooled([[math.log(session.statistic) for session in sessions]])
        claims["milliseconds"] = ms_verdict(sessions, spread, budget["latency_ms"])
    return claims


def recorder(path: Path, reference: Path, profile: HardwareProfile) -> RecordPair:
    """One more session of a file beside its reference, at each call."""
    runtime = load_plugins().runtime(profile.runtime)
    sessions = Sessions(runtime, profile, reference, random_feeds(path, profile))
    return lambda: sessions.record(path)[0]

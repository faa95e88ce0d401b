"""``verify``: a finished run measured again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from autocompress.commands.measure import random_feeds
from autocompress.comparison import TimingSession
from autocompress.errors import UsageError, one_line
from autocompress.latency import Latency
from autocompress.machine.conditions import UNKNOWN, machine
from autocompress.measure import LOOKS, ReferenceSpeed, RunTiming, Sessions, check_place, latency_of
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile
from autocompress.storage.front import MODEL, RECOMMENDED, candidate_of
from autocompress.storage.onnx_file import read_onnx
from autocompress.storage.recovery import Say, read_run
from autocompress.supervisor import tell_nobody
from autocompress.verdict import Verdict, ms_verdict, ratio_verdict

RATIO_TOLERANCE = 0.15  # how far a ratio may be over the one that the search says
CLOCK = 1.04  # how much slower a processor may run than in the run, and still be quiet
RecordPair = Callable[[], TimingSession]


def verify_run(root: Path, say: Say = tell_nobody) -> dict[str, Any]:
    """Time the recommended model of a run beside its reference again, in sessions of its own. ``holds`` is False when a
    claim is not met: the budget, or a ratio at most 15 % over the one that the run says. What cannot be decided is
    listed. say: told which files were made whole before. Raises UsageError.
    """
    document = read_run(root, say)
    chosen = candidate_of(document, document["recommended"])
    if chosen is None:
        raise UsageError(f"{root} recommends nothing, so there is nothing to verify")
    try:
        profile = HardwareProfile.model_validate(document["environment"]["profile"])
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{root}/front.json names no profile that can be read ({one_line(error, 80)}): it was changed"
        ) from error
    if profile.elsewhere:  # a folder may come from somebody else: no command of theirs is run, no token sent to them
        where = f"the command {one_line(profile.command, 80)!r}" if profile.command else f"{profile.agents[0]}"
        raise UsageError(
            f"{root} was timed by {where}, which is not asked because a folder names it: `autocompress measure "
            "recommended/model.onnx --against reference/model.onnx --profile FILE` asks yours"
        )
    check_place(profile)
    path, reference = root / RECOMMENDED / MODEL, root / document["reference"]["artifact"]
    for file in (path, reference):
        if not file.exists():
            raise UsageError(f"{file} is missing: run the search again with --out {root}")
        read_onnx(file)
    recorded = chosen["latency_ms"]["ratio"]
    known = reference_timing(document)
    record = recorder(path, reference, profile, known)
    sessions: list[TimingSession] = []
    for look in LOOKS:
        while len(sessions) < look:
            sessions.append(record())
        latency = latency_of(sessions, replace(known, speed=ReferenceSpeed().after(sessions)))
        claims = judged(latency, document["budget"], recorded)
        if all(verdict.decided for verdict in claims.values()):
            break
    return {
        "run": str(root),
        "holds": all(verdict.answer != "not met" for verdict in claims.values()),
        "problems": [f"{claim}: {v.reason}" for claim, v in claims.items() if v.answer == "not met"],
        "undecided": [f"{claim}: {v.reason}" for claim, v in claims.items() if not v.decided],
        "ratio": latency.ratio,
        "ratio_low": latency.ratio_low,
        "ratio_high": latency.ratio_high,
        "recorded_ratio": recorded,
        "statistic_ms": latency.statistic,
        "sessions": len(sessions),
        "busy_sessions": len(sessions) - latency.quiet_sessions,
    }


def judged(latency: Latency, budget: dict[str, Any], recorded: float) -> dict[str, Verdict]:
    """What the run says of its recommended model, each claim with its verdict. recorded: the ratio that it says."""
    claims = {"ratio": ratio_verdict(latency, recorded * (1 + RATIO_TOLERANCE))}
    if budget["speedup"]:
        claims["speedup"] = ratio_verdict(latency, 1 / budget["speedup"])
    if budget["latency_ms"]:
        claims["milliseconds"] = ms_verdict(latency, budget["latency_ms"])
    return claims


def recorder(path: Path, reference: Path, profile: HardwareProfile, known: RunTiming) -> RecordPair:
    """One more session of a file beside its reference, at each call. known: of the run, which says how fast the
    reference can be.
    """
    runtime = load_plugins().runtime_of(profile)
    quiet_ms = CLOCK * known.reference_ms / (known.slowed or 1.0)
    sessions = Sessions(runtime, profile, reference, random_feeds(path, profile), quiet_ms=quiet_ms, forks=True)
    return lambda: sessions.record(path)[0]


def reference_timing(document: dict[str, Any]) -> RunTiming:
    """What a run says of its reference, where it was made on such a processor: a machine that is busy from the first
    session on would else be taken for a slower one.
    """
    processor, reference = machine().processor, document["reference"]
    if processor == UNKNOWN or document["environment"].get("cpu") != processor:
        return RunTiming()
    return RunTiming(reference_ms=reference["latency_ms"]["p50"], slowed=reference.get("slowed") or 0.0)

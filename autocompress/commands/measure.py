"""``measure``: the latency of any ONNX file, alone or beside another."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from autocompress.candidate.count import count
from autocompress.comparison import together
from autocompress.errors import UsageError
from autocompress.latency import beside_itself
from autocompress.machine.conditions import machine
from autocompress.measure import MOSTLY, Sessions, advice, call_overhead_ms, check_place, latency_of
from autocompress.plugin.contract import Feed
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile, load_profile
from autocompress.storage.onnx_file import read_onnx
from autocompress.supervisor import tell_nobody

SESSIONS = 3
CHECKED_SESSIONS = 8
LEAST_WITHIN = 0.015  # eight sessions that agree to the last digit reach 1.3 %
RANDOM_FEEDS = 4  # in turn, so that no call is timed on what the caches hold


def measure_file(path: Path, profile_name: str) -> dict[str, Any]:
    """Latency of an ONNX file on random inputs of its own shapes; a free first dimension becomes the profile's batch,
    others the sizes that the profile gives by their names.
    """
    profile = _profile(profile_name)
    runtime = load_plugins().runtime_of(profile)
    beside = Sessions(runtime, profile, path, random_feeds(path, profile), forks=True)
    latency = beside_itself(latency_of([beside.record(path)[0] for _ in range(SESSIONS)]))
    overhead_ms, (params, macs) = call_overhead_ms(runtime, profile), count(path)
    return {
        "model": str(path),
        "profile": profile.name,
        "latency_ms": {
            "p50": latency.p50,
            "p90": latency.p90,
            profile.statistic: latency.statistic,
            "low": latency.low,
            "high": latency.high,
            "next_low": latency.next_low,
            "next_high": latency.next_high,
            "sessions": len(latency.sessions),
            "quiet_sessions": latency.quiet_sessions,
        },
        "overhead_ms": overhead_ms,
        "hardly_more_than_overhead": latency.p50 < MOSTLY * overhead_ms,
        "params": params,
        "macs": macs,
        "size_bytes": path.stat().st_size,
    }


def compare_files(
    path: Path, against: Path, profile_name: str, within: float, say: Callable[[str], None] = tell_nobody
) -> dict[str, Any]:
    """How the time of one file stands to another's, on the same random inputs. within: what counts as the same, as a
    share. say: told of each session. Raises UsageError.
    """
    if not LEAST_WITHIN <= within < 1:
        raise UsageError(
            f"--within is a share from {LEAST_WITHIN} to 1, such as 0.03, not {within:g}: "
            "the sessions there are tell no smaller difference"
        )
    profile = _profile(profile_name)
    feeds, other = (random_feeds(file, profile) for file in (path, against))
    if _signature(feeds[0]) != _signature(other[0]):
        raise UsageError(
            f"{path} takes {_shown(feeds[0])} and {against} takes {_shown(other[0])}: "
            "only files with the same inputs can be compared"
        )
    sessions = Sessions(load_plugins().runtime_of(profile), profile, against, feeds, forks=True)
    latency, verdict = sessions.compare(path, within, say)
    return {
        "model": str(path),
        "against": str(against),
        "profile": profile.name,
        "ratio": latency.ratio,
        "ratio_low": latency.ratio_low,
        "ratio_high": latency.ratio_high,
        "next_low": latency.ratio_next_low,
        "next_high": latency.ratio_next_high,
        "ratio_of_all": latency.ratio_of_all,
        "sessions": len(latency.sessions),
        "busy_sessions": len(latency.sessions) - latency.quiet_sessions,
        "verdict": verdict,
    }


def check_machine(path: Path, profile_name: str) -> dict[str, Any]:
    """What of this machine makes the numbers of a file worse, with what would help; how its sessions spread beside the
    same file, and what the machine did meanwhile.
    """
    profile = _profile(profile_name)
    runtime = load_plugins().runtime_of(profile)
    beside = Sessions(runtime, profile, path, random_feeds(path, profile), forks=True)
    sessions = [beside.record(path)[0] for _ in range(CHECKED_SESSIONS)]
    found, conditions = machine(), together([session.conditions for session in sessions], max)
    quiet = sum(session.quiet for session in sessions) / sum(session.blocks for session in sessions)
    busy = sum(session.busy for session in sessions)
    return {
        "machine": asdict(found),
        "sessions": len(sessions),
        "busy_sessions": busy,
        "quiet_blocks": quiet,
        "reference_slowed": max(session.slowed for session in sessions),
        "spread": float(np.std([session.log_ratio for session in sessions], ddof=1)),
        "spread_of_all_blocks": float(np.std([session.log_ratio_of_all for session in sessions], ddof=1)),
        "conditions": asdict(conditions),
        "advice": advice(found, profile.threads, conditions, quiet, busy * 2 > len(sessions)),
    }


def _profile(name: str) -> HardwareProfile:
    """Raises UsageError when there is none, or this machine cannot be it."""
    profile = load_profile(name)
    check_place(profile)
    return profile


def random_feeds(path: Path, profile: HardwareProfile) -> list[Feed]:
    """For each of the profile's shapes in turn. Raises UsageError when it is no ONNX file or keeps data elsewhere."""
    return [random_feed(path, profile, seed, sizes) for seed in range(RANDOM_FEEDS) for sizes in profile.sizes]


def random_feed(path: Path, profile: HardwareProfile, seed: int, free: Mapping[str, int] = {}) -> Feed:
    """Inputs of the file's own shapes and types. free: sizes of its free axes. Raises UsageError when it is no ONNX
    file or keeps data elsewhere.
    """
    model = read_onnx(path)
    known = {t.name for t in model.graph.initializer}
    random = np.random.default_rng(seed)
    feed: dict[str, Any] = {}
    for value in (v for v in model.graph.input if v.name not in known):
        dims = list(value.type.tensor_type.shape.dim)
        sizes = [d.dim_value if d.HasField("dim_value") else free.get(d.dim_param) for d in dims]
        if dims and sizes[0] is None:
            sizes[0] = profile.batch
        if unknown := [f"{i} ({d.dim_param or 'nameless'})" for i, d in enumerate(dims) if sizes[i] is None]:
            raise UsageError(
                f"{path}: input {value.name} has free dimensions {', '.join(unknown)} beside the batch: give their "
                "sizes in [shapes] of a profile, or fix them in the file"
            )
        shape = [size for size in sizes if size is not None]
        if not value.type.HasField("tensor_type"):
            raise UsageError(f"{path}: input {value.name} is no tensor, and random values can be made of tensors alone")
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feed[value.name] = (
            random.standard_normal(shape) if np.issubdtype(kind, np.floating) else random.integers(0, 2, shape)
        ).astype(kind)
    return feed


def _signature(feed: Feed) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (str(value.dtype), value.shape) for name, value in sorted(feed.items())}


def _shown(feed: Feed) -> str:
    return ", ".join(f"{name}: {kind} {list(shape)}" for name, (kind, shape) in _signature(feed).items()) or "nothing"

"""``measure``: the latency of any ONNX file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from autocompress.candidate.count import count
from autocompress.errors import UsageError
from autocompress.measure import FULL, measure, timer
from autocompress.plugin.contract import Feed
from autocompress.plugin.loader import load_plugins
from autocompress.profile import HardwareProfile, load_profile
from autocompress.storage.onnx_file import read_onnx

RANDOM_FEEDS = 4  # in turn, so that no call is timed on what the caches hold


def measure_file(path: Path, profile_name: str) -> dict[str, Any]:
    """Latency of an ONNX file on random inputs of its own shapes; free dimensions become the profile's batch."""
    profile = load_profile(profile_name)
    runtime = load_plugins().runtime(profile.runtime)
    feeds = [random_feed(path, profile, seed) for seed in range(RANDOM_FEEDS)]
    one, other = (timer(runtime, runtime.open(path, profile), feeds) for _ in range(2))
    latency = measure(one, other, profile, effort=FULL)
    params, macs = count(path)
    return {
        "model": str(path),
        "profile": profile.name,
        "latency_ms": {
            "p50": latency.p50,
            "p90": latency.p90,
            profile.statistic: latency.statistic,
            "low": latency.low,
            "high": latency.high,
            "reliable": latency.reliable,
        },
        "params": params,
        "macs": macs,
        "size_bytes": path.stat().st_size,
    }


def random_feed(path: Path, profile: HardwareProfile, seed: int) -> Feed:
    """Inputs of the file's own shapes and types. Raises UsageError when it is no ONNX file or keeps data elsewhere."""
    model = read_onnx(path)
    known = {t.name for t in model.graph.initializer}
    random = np.random.default_rng(seed)
    feed: dict[str, Any] = {}
    for value in (v for v in model.graph.input if v.name not in known):
        free = [i for i, d in enumerate(value.type.tensor_type.shape.dim) if not d.HasField("dim_value")]
        if free not in ([], [0]):
            raise UsageError(
                f"{path}: input {value.name} has free dimensions {free} beside the batch: fix their sizes first"
            )
        shape = [
            d.dim_value if i not in free else profile.batch for i, d in enumerate(value.type.tensor_type.shape.dim)
        ]
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feed[value.name] = (
            random.standard_normal(shape) if np.issubdtype(kind, np.floating) else random.integers(0, 2, shape)
        ).astype(kind)
    return feed

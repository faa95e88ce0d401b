"""Whether what the measurement says can be relied on.

    python benchmarks/trust.py [--pairs 40] [--spread 30] [--states quiet,busy,training] [--crowded 0]

compares files whose relation is known, as ``autocompress measure --against`` does, on a machine left alone, with
one core kept busy, and beside a training that uses all cores: a file against itself, and against one with a tenth more
work. Then sessions of files from 0.02 to 100 ms beside a reference: how they spread, by quiet blocks and by all. With
``--crowded`` so many short sessions of a file of a third of the reference's work beside up to twice as many busy
programs as there are cores, with and without what the system tells of waits for a processor. Prints each row as it is
known.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader

from autocompress.commands.measure import compare_files, random_feeds
from autocompress.machine.blocks import BlockLimits
from autocompress.machine.cores import cores
from autocompress.machine.waiting import never_waited, waited_here
from autocompress.measure import Sessions, here
from autocompress.plugin.loader import load_plugins
from autocompress.profile import load_profile

WITHIN = 0.03
SIZES = {  # width, pixels of a side, convolutions
    "0.02 ms": (8, 8, 4),
    "0.2 ms": (16, 16, 10),
    "1 ms": (32, 20, 10),
    "10 ms": (64, 32, 10),
    "100 ms": (128, 48, 12),
}
TRAINING = """
import torch
model = torch.nn.Sequential(*[m for _ in range(4) for m in (torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU())])
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
while True:
    loss = model(torch.randn(64, 32, 28, 28)).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
"""
SHORT_S = 0.05  # of a session in a search of a minute
BESIDE = {"quiet": None, "busy": "while True: pass", "training": TRAINING}


def write_network(path: Path, width: int, size: int, depth: int) -> Path:
    """A float32 network of ``depth`` convolutions on one image of ``size`` x ``size`` with ``width`` channels."""
    random, nodes, weights, last = np.random.default_rng(0), [], [], "x"
    for layer in range(depth):
        values = random.standard_normal((width, width, 3, 3)).astype("float32") / math.sqrt(9 * width / 2)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1] * 4, name=f"conv{layer}"))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], name=f"relu{layer}"))
        last = f"r{layer}"
    shape = [1, width, size, size]
    inputs, outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", last))
    graph = helper.make_graph(nodes, "network", [inputs], [outputs], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[dict[str, Any]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def write_int8(path: Path, source: Path) -> Path:
    feeds = [dict(feed) for feed in random_feeds(source, load_profile("cpu"))]
    quantize_static(
        source, path, Calibration(feeds), QuantFormat.QDQ, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, per_channel=True, reduce_range=True,
    )  # fmt: skip
    return path


@contextmanager
def beside(state: str) -> Iterator[None]:
    """While open, another process does what the state says."""
    program = BESIDE[state]
    if program is None:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        time.sleep(4)
        yield
    finally:
        process.kill()
        process.wait()


def pairs(folder: Path, state: str, count: int) -> None:
    """Comparisons whose answer is known, each with new sessions."""
    for size in ("0.2 ms", "1 ms"):
        width, image, depth = SIZES[size]
        base = write_network(folder / "base.onnx", width, image, depth)
        more = write_network(folder / "more.onnx", width, image, depth + 1)
        for name, candidate in (("identical", base), ("a tenth more", more)):
            found = []
            began = time.monotonic()
            for _ in range(count):
                found.append(compare_files(candidate, base, "cpu", WITHIN))
            ratios = np.array([f["ratio"] for f in found])
            row = {
                "what": name,
                "size": size,
                "state": state,
                "comparisons": count,
                **dict(sorted(Counter(f["verdict"] for f in found).items())),
                "1_in_interval": sum(f["ratio_low"] <= 1 <= f["ratio_high"] for f in found),
                "ratio": float(np.median(ratios)),
                "sd": float(np.std(np.log(ratios))),
                "width": float(np.median([f["ratio_high"] - f["ratio_low"] for f in found])),
                "sessions": float(np.mean([f["sessions"] for f in found])),
                "busy": float(np.mean([f["busy_sessions"] / f["sessions"] for f in found])),
                "seconds": (time.monotonic() - began) / count,
            }
            show(row)


def spread(folder: Path, state: str, count: int) -> None:
    """Sessions of an int8 file, and of the float file itself, beside the float file. ratio, sd: of the sessions that
    were quiet, which count alone where there are some; ratio_of_all, sd_of_all: of all blocks of all sessions.
    """
    profile = load_profile("cpu")
    runtime = load_plugins().runtime(profile.runtime)
    for size, (width, image, depth) in SIZES.items():
        base = write_network(folder / "base.onnx", width, image, depth)
        sessions = Sessions(runtime, profile, base, random_feeds(base, profile))
        for name, candidate in (("itself", base), ("int8", write_int8(folder / "int8.onnx", base))):
            began = time.monotonic()
            found = [sessions.record(candidate)[0] for _ in range(count if size != "100 ms" else max(5, count // 3))]
            counted = [s for s in found if not s.busy] or found
            row = {
                "what": name,
                "size": size,
                "state": state,
                "ms": float(np.median([s.p50 for s in found])),
                "ratio": float(np.exp(np.mean([s.log_ratio for s in counted]))),
                "sd": float(np.std([s.log_ratio for s in counted])),
                "sd_of_ms": float(np.std(np.log([s.statistic for s in found]))),
                "ratio_of_all": float(np.exp(np.mean([s.log_ratio_of_all for s in found]))),
                "sd_of_all": float(np.std([s.log_ratio_of_all for s in found])),
                "quiet": float(np.mean([s.quiet / s.blocks for s in found])),
                "busy": sum(s.busy for s in found) / len(found),
                "seconds": (time.monotonic() - began) / len(found),
            }
            show(row)


def crowded(folder: Path, count: int) -> None:
    """Short sessions of a file beside a reference of three times its work and some milliseconds."""
    profile, reference = load_profile("cpu"), write_network(folder / "base.onnx", 32, 28, 12)
    candidate, runtime = write_network(folder / "less.onnx", 32, 28, 4), load_plugins().runtime(profile.runtime)
    for programs in (0, cores(), 2 * cores()):
        with ExitStack() as stack:
            for _ in range(programs):
                stack.enter_context(beside("busy"))
            for told in (False, True):
                here.waited_here = waited_here if told else lambda **how: nullcontext((never_waited, never_waited))
                sessions = Sessions(runtime, profile, reference, random_feeds(reference, profile), forks=True)
                found = [sessions.record(candidate, BlockLimits.within(SHORT_S))[0] for _ in range(count)]
                ratios = np.exp([session.log_ratio for session in found])
                row = {
                    "what": "a third of the work",
                    "busy_programs": programs,
                    "waits": "told" if told else "not told",
                    "sessions": count,
                    "reference_ms": float(np.median([s.reference for s in found])),
                    "ratio": float(np.median(ratios)),
                    "least": float(ratios.min()),
                    "most": float(ratios.max()),
                    "busy": sum(s.busy for s in found) / count,
                }
                show(row)


def show(row: dict[str, Any]) -> None:
    print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--spread", type=int, default=30)
    parser.add_argument("--states", default="quiet,busy,training")
    parser.add_argument("--crowded", type=int, default=0, help="sessions of each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.crowded:
            crowded(Path(name), options.crowded)
        for state in options.states.split(","):
            with beside(state):
                if options.spread:
                    spread(Path(name), state, options.spread)
                if options.pairs:
                    pairs(Path(name), state, options.pairs)


if __name__ == "__main__":
    main()

"""ONNX Runtime's sessions: how a file is opened, called to be timed, and profiled, the same wherever it runs."""

import json
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort

WARM_UP_CALLS = 3  # calls of a profile that do not count
FEWEST_PROFILED, MOST_PROFILED, SECONDS = 7, 100, 0.05  # of a profile
KERNEL = "_kernel_time"
AFFINITIES = "session.intra_op_thread_affinities"  # an entry of a session's configuration
SPIN_DURATION, SPIN_US = "session.intra_op.spin_duration_us", 500  # an eighth of a block
AROUND = frozenset({"If", "Loop", "Scan"})  # their time is that of the nodes inside


# An ONNX file (IR 8, opset 17) that hands on one number: "y" is "x". What a runtime takes itself shows on it.
NOTHING = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02"
    "080142040a001011"
)


class CannotLoad(Exception):
    """ONNX Runtime and a file, or an execution provider that does not work here."""


def session_options(threads: int, options: Mapping[str, Any]) -> ort.SessionOptions:
    """Threads pinned. options: entries of the session's configuration.

    The threads of a pool that has nothing to do spin, by default until they took some 40 ms of processor time: those of
    a file that was just called keep a processor that another one's need. Half a millisecond bridges what lies between
    calls of one file. Versions of ONNX Runtime that do not know the entry pass over it.
    """
    found = ort.SessionOptions()
    found.intra_op_num_threads = threads
    found.inter_op_num_threads = 1
    found.log_severity_level = 4
    for name, value in {SPIN_DURATION: SPIN_US, **options}.items():
        found.add_session_config_entry(name, str(int(value) if isinstance(value, bool) else value))
    return found


def affinity_entries(options: Mapping[str, Any], processors: Sequence[int]) -> dict[str, str]:
    """The entry that keeps each of the pool's threads, which are all but the calling one, on one of ``processors``, by
    the system's numbers; none where ``options`` have one.
    """
    if not processors or AFFINITIES in options:
        return {}
    return {AFFINITIES: ";".join(str(processor + 1) for processor in processors)}  # it counts from 1


def open_session(path: Path, options: ort.SessionOptions, provider: str) -> ort.InferenceSession:
    """Raises CannotLoad."""
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime has no common base for what it raises
        said = " ".join(str(error).split())
        raise CannotLoad(f"ONNX Runtime cannot load the file: {said[:200]}") from error
    if provider not in session.get_providers():  # it goes on with another one, silently
        raise CannotLoad(f"{provider} does not work here: a device, its driver or a library of its is missing")
    return session


def bound_call(session: ort.InferenceSession, feed: Mapping[str, Any]) -> Callable[[], object]:
    """One call with inputs and outputs bound beforehand: what is timed."""
    binding = session.io_binding()
    for given in session.get_inputs():
        binding.bind_cpu_input(given.name, np.asarray(feed[given.name], order="C"))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return partial(session.run_with_iobinding, binding)


def node_times(
    path: Path, options: ort.SessionOptions, provider: str, feeds: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str], float]:
    """Milliseconds of each node of a file, by its name and operator, in a profile of its own. Raises CannotLoad."""
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = open_session(path, options, provider)
        started = time.monotonic()
        for number in range(WARM_UP_CALLS + MOST_PROFILED):
            if number >= WARM_UP_CALLS + FEWEST_PROFILED and time.monotonic() - started > SECONDS:
                break
            session.run(None, feeds[number % len(feeds)])
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return profiled(events, WARM_UP_CALLS)


def profiled(events: Sequence[Mapping[str, Any]], warm_up: int) -> dict[tuple[str, str], float]:
    """The time of each node: its median over the calls that a profile holds after the first ``warm_up``."""
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")
    nodes: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(KERNEL) and event["args"]["op_name"] not in AROUND:
            calls = nodes.setdefault((_layer(event["name"]), event["args"]["op_name"]), [0.0] * len(starts))
            calls[bisect_right(starts, event["ts"]) - 1] += event["dur"] / 1e3
    return {node: median(calls[warm_up:]) for node, calls in nodes.items()}


def _layer(event: str) -> str:
    """A node's name without what the profile and the fusions of ONNX Runtime append to it."""
    return event.removesuffix(KERNEL).removesuffix("_nchwc").removesuffix("_output_0")

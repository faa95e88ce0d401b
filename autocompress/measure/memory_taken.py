"""The memory that a file takes on the target: opening it and calling it, beside what the process had before."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autocompress.data import Feed
from autocompress.errors import CandidateFailed, UsageError
from autocompress.machine.memory import peak_bytes, resident_bytes, settled_bytes
from autocompress.machine.onnx_session import NOTHING
from autocompress.measure.agent_device import MORE_S, agent_of, how_to_run
from autocompress.measure.forked import can_fork, forked
from autocompress.measure.outputs import running
from autocompress.measure.recorded import packed
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile


def memory_taken(runtime: Runtime, profile: HardwareProfile, path: Path, feeds: Sequence[Feed]) -> int:
    """Bytes at most, in a process of its own. Raises CandidateFailed when the file does not run, and DeviceLost."""
    if not profile.agents:
        return forked(lambda: _taken_here(runtime, profile, path, feeds))
    agent = agent_of(profile, profile.agents[0])
    files: dict[str, Path | bytes] = {"file": path, "inputs": packed(feeds)}
    found = agent.ask("memory", files, how_to_run(profile), MORE_S).get("bytes")
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise CandidateFailed(f"the agent at {agent.address} told no number of bytes")
    return found


def check_memory(profile: HardwareProfile, runtime: Runtime, *, forks: bool) -> None:
    """Raises UsageError where a profile limits the memory and nobody can tell how much a file takes. forks: whether
    files are measured in processes that do nothing else.
    """
    if profile.max_memory_bytes is None or profile.agents:
        return
    told = resident_bytes(os.getpid()) is not None and can_fork(runtime, profile) and forks
    if profile.command or not told:
        raise UsageError(
            f"the profile {profile.name} has max_memory_bytes, and how much memory a file takes cannot be measured "
            f"{'by a command' if profile.command else f'here for {runtime.name}'}: take the limit out, give a device "
            "with an agent, or the task as FILE:FACTORY where it is an object"
        )


def _taken_here(runtime: Runtime, profile: HardwareProfile, path: Path, feeds: Sequence[Feed]) -> int:
    """In a process of its own, in which the runtime has run something: what it takes itself is not the file's."""
    with running(), tempfile.TemporaryDirectory(prefix="autocompress-") as folder:
        nothing = Path(folder) / "nothing.onnx"
        nothing.write_bytes(NOTHING)
        runtime.open(nothing, profile).run({"x": np.zeros(1, np.float32)})
        before = settled_bytes()
        session = runtime.open(path, profile)
        for feed in feeds:
            session.run(feed)
    peak = peak_bytes(os.getpid())
    if before is None or peak is None:
        raise CandidateFailed("the system does not say how much memory a process has")
    return max(0, peak - before)

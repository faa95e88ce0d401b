"""Where the time of a file goes, by the target's own profile."""

from collections.abc import Sequence
from pathlib import Path

from autocompress.data import Feed
from autocompress.errors import CandidateFailed
from autocompress.machine.weighted import of_each_shape
from autocompress.measure.affinity import each_on_its_own
from autocompress.measure.agent_device import MORE_S, agent_of, how_to_run
from autocompress.measure.recorded import packed
from autocompress.plugin.contract import OperatorTime, Runtime
from autocompress.profile import HardwareProfile

MOST_MS = 1e7  # of a node


def operators_of(
    runtime: Runtime, profile: HardwareProfile, path: Path, feeds: Sequence[Feed]
) -> Sequence[OperatorTime]:
    """Each node, with its milliseconds in a call, of several shapes the mean by weight; none where the target does not
    tell. feeds: of each of the profile's shapes in turn. Raises CandidateFailed when the file does not run, and
    DeviceLost.
    """
    weights = profile.weights
    if profile.command:
        return ()
    found: dict[tuple[str, str], float] = {}
    for of_one, weight in zip(of_each_shape(feeds, weights), weights, strict=True):
        for node in _of_one_shape(runtime, profile, path, of_one):
            name = node.name, node.operator
            found[name] = found.get(name, 0.0) + node.ms * weight / sum(weights)
    total = max(sum(found.values()), 1e-9)
    return [OperatorTime(name, operator, ms, ms / total) for (name, operator), ms in found.items()]


def _of_one_shape(
    runtime: Runtime, profile: HardwareProfile, path: Path, feeds: Sequence[Feed]
) -> Sequence[OperatorTime]:
    if not profile.agents:
        with each_on_its_own(runtime, profile) as placed:
            return runtime.operators(path, placed, feeds) or ()
    agent = agent_of(profile, profile.agents[0])
    files: dict[str, Path | bytes] = {"file": path, "inputs": packed(feeds)}
    found = agent.ask("operators", files, how_to_run(profile), MORE_S).get("operators")
    try:
        rows = [(str(row["name"]), str(row["operator"]), float(row["ms"])) for row in found]
        possible = all(0 <= ms < MOST_MS for *_, ms in rows)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise CandidateFailed(f"the agent at {agent.address} told no times of operators") from error
    if not possible:
        raise CandidateFailed(f"the agent at {agent.address} told times of operators that none takes")
    total = max(sum(ms for *_, ms in rows), 1e-9)
    return [OperatorTime(name, operator, ms, ms / total) for name, operator, ms in rows]

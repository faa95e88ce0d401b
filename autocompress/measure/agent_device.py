"""One session on a device with an agent, outputs there, and what devices of one profile have to agree in."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from autocompress.data import Array, Feed
from autocompress.errors import CandidateFailed, UsageError
from autocompress.machine.blocks import BlockLimits, Blocks
from autocompress.machine.conditions import Conditions
from autocompress.measure.agent import Agent
from autocompress.measure.recorded import blocks_in, outputs_in, packed
from autocompress.plugin.contract import Session
from autocompress.profile import HardwareProfile

MORE_S = 60.0  # beside four times a session's seconds, which is what an agent gives it and more
TIMES_SESSION = 4
OUTPUTS_S = 180.0  # for the outputs of some examples
KIND = frozenset({"processor", "cores", "instructions", "onnxruntime"})  # what devices of one profile agree in


def agent_limit_s(seconds: float) -> float:
    """That a session of so many seconds may take in all, with the files on their way."""
    return MORE_S + TIMES_SESSION * seconds


def agent_of(profile: HardwareProfile, address: str) -> Agent:
    return Agent(address, profile.token_file, profile.ca_file)


@dataclass(frozen=True)
class AgentDevice:
    """profile: of one device. feeds: inputs of both files, taken in turn."""

    profile: HardwareProfile
    reference: Path
    feeds: Sequence[Feed]

    def blocks(self, candidate: Path, limits: BlockLimits, known_ms: float | None) -> tuple[Blocks, Conditions]:
        files: dict[str, Path | bytes] = {
            "candidate": candidate,
            "reference": self.reference,
            "inputs": packed(self.feeds),
        }
        asked = {
            **how_to_run(self.profile),
            "quiet": limits.quiet,
            "seconds": limits.seconds,
            "fewest": limits.fewest,
            "known_ms": 0.0 if known_ms == math.inf else known_ms,
        }
        agent = agent_of(self.profile, self.profile.agents[0])
        found = agent.ask("compare", files, asked, agent_limit_s(limits.seconds))
        return blocks_in(found.get("blocks"), f"the agent at {agent.address}"), _conditions(found.get("conditions"))


class DeviceSession(Session):
    """A file on the first device of a profile, to be run and not timed."""

    def __init__(self, profile: HardwareProfile, path: Path) -> None:
        self._profile = profile
        self._path = path
        self._names = [given.name for given in onnx.load(str(path), load_external_data=False).graph.input]

    @property
    def input_names(self) -> Sequence[str]:
        return self._names

    def run(self, feed: Feed) -> Sequence[Array]:
        return next(self.run_all([feed]))

    def run_all(self, feeds: Sequence[Feed]) -> Iterator[Sequence[Array]]:
        """Raises CandidateFailed when the file does not run there, and DeviceLost."""
        agent = agent_of(self._profile, self._profile.agents[0])
        files: dict[str, Path | bytes] = {"file": self._path, "inputs": packed(feeds)}
        answer = agent.ask("outputs", files, how_to_run(self._profile), OUTPUTS_S)
        return iter(outputs_in(agent.file(str(answer.get("outputs"))), len(feeds), f"the agent at {agent.address}"))


def how_to_run(profile: HardwareProfile) -> dict[str, Any]:
    """How a device opens files."""
    return {"threads": profile.threads, "provider": profile.provider, "options": dict(profile.options)}


def check_devices(profile: HardwareProfile) -> None:
    """Raises UsageError when a device of a profile cannot run what it says, or is of another kind than the first;
    DeviceLost when one does not answer. A profile without agents has none.
    """
    kinds = {address: _kind(profile, address) for address in profile.agents}
    for address, kind in kinds.items():
        first = kinds[profile.agents[0]]
        if different := [name for name, value in first.items() if kind.get(name) != value]:
            raise UsageError(
                f"the devices of the profile {profile.name} are of different kinds: {different[0]} is "
                f"{first[different[0]]} at {profile.agents[0]} and {kind.get(different[0])} at {address}; what one of "
                "them measures says nothing of the other: give each a profile of its own"
            )


def device_kind(profile: HardwareProfile) -> str:
    """What the devices of a profile are, in words; empty for one without agents. Raises as ``check_devices`` does."""
    if not profile.agents:
        return ""
    kind = _kind(profile, profile.agents[0])
    instructions = " ".join(map(str, kind["instructions"]))
    return f"{kind['processor']}, {kind['cores']} cores, {instructions}, onnxruntime {kind['onnxruntime']}"


def _kind(profile: HardwareProfile, address: str) -> dict[str, Any]:
    """What a device is: ``processor``, ``cores``, ``instructions``, and its version of ``onnxruntime``."""
    found = agent_of(profile, address).about()
    kind: dict[str, Any] = found["kind"]
    cores = kind.get("cores")
    if missing := KIND - set(kind):
        raise UsageError(
            f"the agent at {address} does not tell its {', '.join(sorted(missing))}: it is another version"
        )
    if profile.provider not in found["providers"]:
        known = ", ".join(map(str, found["providers"]))
        raise UsageError(f"the onnxruntime of the device at {address} has no {profile.provider}: it has {known}")
    if isinstance(cores, int) and profile.threads > cores:
        raise UsageError(
            f"the profile {profile.name} takes {profile.threads} threads and the device at {address} has {cores} "
            "cores: give a profile with fewer threads"
        )
    return {name: kind[name] for name in KIND}


def _conditions(found: Any) -> Conditions:
    try:
        conditions = Conditions(**{name: float(value) for name, value in found.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise CandidateFailed("the agent told no conditions that a machine can have") from error
    return conditions

"""One session on a device with an agent, outputs there, and what devices of one profile have to agree in."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from autocompress.data import Array, Feed
from autocompress.errors import CandidateFailed, UsageError, one_line
from autocompress.machine.blocks import BlockLimits, Blocks
from autocompress.machine.conditions import Conditions
from autocompress.measure.agent import CONNECT_S, SEND_S, Agent, DeviceLost
from autocompress.measure.recorded import blocks_in, outputs_in, packed
from autocompress.plugin.contract import Session
from autocompress.profile import HardwareProfile

MORE_S = 150.0  # for any job, beside four times a session's seconds: more than an agent gives it as a rule
TIMES_SESSION = 4
CALLS_AT_ONCE, CALLS_BYTES, CALLS_S = 256, 16 << 20, 5.0  # made together there
KIND = {
    "processor": str,
    "cores": int,
    "instructions": list,
    "onnxruntime": str,
}  # what devices of one profile agree in


def agent_limit_s(seconds: float) -> float:
    """That a session of so many seconds may take in all: asked for twice, with the files on their way between."""
    return 2 * _answer_s(seconds) + 3 * (SEND_S + CONNECT_S)


def _answer_s(seconds: float) -> float:
    """That an agent may take to answer for a session."""
    return MORE_S + TIMES_SESSION * seconds


def agent_of(profile: HardwareProfile, address: str) -> Agent:
    return Agent(address, profile.token_file, profile.ca_file)


@dataclass(frozen=True)
class AgentDevice:
    """profile: of one device. feeds: inputs of both files, taken in turn."""

    profile: HardwareProfile
    reference: Path
    feeds: Sequence[Feed]
    _kinds: list[Any] = field(default_factory=list, init=False, compare=False)  # what answered, once it has

    @cached_property
    def _inputs(self) -> bytes:
        return packed(self.feeds)

    def blocks(self, candidate: Path, limits: BlockLimits, known_ms: float | None) -> tuple[Blocks, Conditions]:
        files: dict[str, Path | bytes] = {
            "candidate": candidate,
            "reference": self.reference,
            "inputs": self._inputs,
        }
        asked = {
            **how_to_run(self.profile),
            "quiet": limits.quiet,
            "seconds": limits.seconds,
            "fewest": limits.fewest,
            "known_ms": 0.0 if known_ms == math.inf else known_ms,
        }
        agent = agent_of(self.profile, self.profile.agents[0])
        found = agent.ask("compare", files, asked, _answer_s(limits.seconds))
        self._refuse_another(found.get("kind"), agent.address)
        return blocks_in(found.get("blocks"), f"the agent at {agent.address}"), _conditions(found.get("conditions"))

    def _refuse_another(self, kind: Any, address: str) -> None:
        """Raises UsageError when what answers is another device than before, or has another runtime by now."""
        if kind not in self._kinds:
            self._kinds.append(kind)
        if len(self._kinds) > 1:
            raise UsageError(
                f"the device at {address} is another one than before, or runs files otherwise "
                f"({one_line(self._kinds, 200)}): its times say nothing of those; search anew with another --out"
            )


class DeviceSession(Session):
    """A file on whichever device of a profile answers first, to be run and not timed."""

    def __init__(self, profile: HardwareProfile, path: Path) -> None:
        self._profile = profile
        self._path = path
        self._at_once = 1  # until it is known what a call takes
        self._names = [given.name for given in onnx.load(str(path), load_external_data=False).graph.input]

    @property
    def input_names(self) -> Sequence[str]:
        return self._names

    def run(self, feed: Feed) -> Sequence[Array]:
        return next(self.run_all([feed]))

    def run_all(self, feeds: Sequence[Feed]) -> Iterator[Sequence[Array]]:
        """A few calls at once: as many as their inputs and outputs, and the seconds that they take, allow. Raises
        CandidateFailed when the file does not run there, and DeviceLost when no device answers.
        """
        left = list(feeds)
        while left:
            some, left = left[: self._at_once], left[self._at_once :]
            inputs, began = packed(some), time.monotonic()
            content, who = self._asked(inputs)
            each_s = (time.monotonic() - began) / len(some)
            each_bytes = (len(inputs) + len(content)) / len(some)
            self._at_once = max(1, min(CALLS_AT_ONCE, int(CALLS_BYTES / each_bytes), int(CALLS_S / max(each_s, 1e-3))))
            yield from outputs_in(content, len(some), who)

    def _asked(self, inputs: bytes) -> tuple[bytes, str]:
        """The outputs for inputs, by the first device that answers, and which that was."""
        files: dict[str, Path | bytes] = {"file": self._path, "inputs": inputs}
        *others, last = (agent_of(self._profile, address) for address in self._profile.agents)
        for agent in (*others, last):
            try:
                answer = agent.ask("outputs", files, how_to_run(self._profile), MORE_S)
                return agent.file(str(answer.get("outputs"))), f"the agent at {agent.address}"
            except DeviceLost:
                if agent is last:
                    raise
        raise AssertionError("a profile with agents has one")


def how_to_run(profile: HardwareProfile) -> dict[str, Any]:
    """How a device runs files."""
    how = {"threads": profile.threads, "provider": profile.provider, "options": dict(profile.options)}
    return {**how, "cold": profile.cold, "weights": profile.weights}


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
    if not all(isinstance(kind.get(name), of) for name, of in KIND.items()):
        raise UsageError(f"the agent at {address} does not tell its {', '.join(KIND)}: it is another version")
    if profile.provider not in found["providers"]:
        known = ", ".join(map(str, found["providers"]))
        raise UsageError(f"the onnxruntime of the device at {address} has no {profile.provider}: it has {known}")
    taken = found.get("options")
    if unknown := sorted(set(profile.options) - set(taken if isinstance(taken, list) else ())):
        raise UsageError(f"the agent at {address} takes no option {unknown[0]}: it takes {one_line(taken, 900)}")
    if len(profile.weights) > 1 and not found.get("weighs"):
        raise UsageError(f"the agent at {address} weighs no shapes: it is an older version, install it anew")
    if profile.threads > kind["cores"]:
        raise UsageError(
            f"the profile {profile.name} takes {profile.threads} threads and the device at {address} has "
            f"{kind['cores']} cores: give a profile with fewer threads"
        )
    return {name: kind[name] for name in KIND}


def _conditions(found: Any) -> Conditions:
    conditions: Conditions | None
    try:
        known = Conditions.__dataclass_fields__  # an agent may be newer
        conditions = Conditions(**{name: float(value) for name, value in found.items() if name in known})
    except (AttributeError, TypeError, ValueError, OverflowError):
        conditions = None
    if conditions is None or not all(0 <= value < math.inf for value in asdict(conditions).values()):
        raise CandidateFailed("the agent told no conditions that a machine can have")
    return conditions

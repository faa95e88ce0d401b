"""Where the files of a session run: this machine, a program that reaches a device, or an agent on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from autocompress.data import Feed
from autocompress.errors import UsageError
from autocompress.machine.blocks import BlockLimits, Blocks
from autocompress.machine.conditions import Conditions
from autocompress.measure.agent import DeviceLost
from autocompress.measure.agent_device import AgentDevice, agent_limit_s, check_devices
from autocompress.measure.command_device import CommandDevice, command_limit_s
from autocompress.measure.conditions import check_threads
from autocompress.measure.here import Here
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile


class Place(Protocol):
    def blocks(self, candidate: Path, limits: BlockLimits, known_ms: float | None) -> tuple[Blocks, Conditions]:
        """What a session records, both files opened anew. known_ms: of a call of the reference when nobody disturbs it,
        as far as that is known; None where every moment counts. Raises CandidateFailed when a file does not open or
        run, or when what the place answers is no session; DeviceLost when it does not answer.
        """


def place_of(
    runtime: Runtime, profile: HardwareProfile, reference: Path, feeds: Sequence[Feed], *, forks: bool = False
) -> Place:
    """Where a profile says, which has one device at most. feeds: inputs of both files, taken in turn. forks: where
    files run here, each session in a copy of this process.
    """
    if profile.command:
        return CommandDevice(profile.command, profile.threads, reference, feeds)
    if profile.agents:
        return AgentDevice(profile, reference, feeds)
    return Here(runtime, profile, reference, feeds, forks=forks)


def check_place(profile: HardwareProfile) -> None:
    """Raises UsageError where the place that a profile names cannot run what it says: too few cores, or devices that do
    not answer or differ.
    """
    check_threads(profile)
    try:
        check_devices(profile)
    except DeviceLost as error:
        raise UsageError(str(error)) from error


def place_limit_s(profile: HardwareProfile, seconds: float) -> float:
    """That a session of so many seconds may take in all where a profile says, since what takes long on a device
    elsewhere is not the file; 0 for this machine.
    """
    if profile.command:
        return command_limit_s(seconds)
    return agent_limit_s(seconds) if profile.agents else 0.0

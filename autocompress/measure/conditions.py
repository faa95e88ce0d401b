"""What of a machine makes numbers worse, and what would help."""

from autocompress.errors import UsageError
from autocompress.machine.conditions import Conditions, Machine
from autocompress.machine.cores import cores
from autocompress.profile import HardwareProfile

SWITCHES_A_SECOND = 20.0  # involuntary ones, above which somebody else wants this core
STOLEN = 0.02  # share of time that the host gave to others
THROTTLED = 0.01  # share of time
FEW_QUIET = 0.3  # share of blocks


def check_threads(profile: HardwareProfile) -> None:
    """Raises UsageError where this machine has fewer cores than a profile takes threads."""
    threads = profile.threads * profile.streams
    if threads > cores() and not profile.elsewhere:
        raise UsageError(
            f"the profile {profile.name} takes {threads} threads and there are {cores()} cores here: threads "
            "that wait for each other say nothing about a machine that has them; give a profile with fewer threads"
        )


def advice(found: Machine, threads: int, conditions: Conditions, quiet: float, busy: bool) -> list[str]:
    """What makes numbers worse here, each with what would help. quiet: the share of quiet blocks. busy: whether there
    were too few of them.
    """
    said = []
    if found.governor not in (None, "performance"):
        said.append(
            f"the processor's frequency follows the load (governor {found.governor}): "
            "`sudo cpupower frequency-set -g performance`"
        )
    if found.quota is not None and found.quota < threads:
        said.append(
            f"this container may use {found.quota:g} cores and the profile takes {threads} threads: "
            "raise its limit of processor time"
        )
    if conditions.throttled > THROTTLED:
        said.append(
            f"this container was stopped for {conditions.throttled:.0%} of the time, having used up its share: "
            "raise its limit of processor time"
        )
    if conditions.gpu_throttled > THROTTLED:
        said.append(
            f"the GPU lowered its clock by {conditions.gpu_throttled:.0%}, for heat or power: cool it, or raise its "
            "power limit (`nvidia-smi -q -d PERFORMANCE` says why)"
        )
    if conditions.stolen > STOLEN:
        said.append(
            f"the host gave {conditions.stolen:.0%} of the time to other machines: use one with cores of its own"
        )
    if conditions.switches > SWITCHES_A_SECOND:
        said.append(
            f"other processes took this one's core {conditions.switches:.0f} times a second: "
            "stop them, or leave a core free"
        )
    if busy:
        said.append("too few moments were quiet: what is shown is what a busy machine makes of the file")
    elif quiet < FEW_QUIET:
        said.append(f"{quiet:.0%} of the blocks were quiet: measuring takes longer, and numbers stay right")
    return said

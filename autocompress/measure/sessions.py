"""Sessions of files beside a reference, wherever the profile says, summed up."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autocompress.arrays import Floats
from autocompress.comparison import Blocks, Relation, TimingSession
from autocompress.data import Feed
from autocompress.latency import Latency
from autocompress.measure.blocks import USUAL, BlockLimits
from autocompress.measure.command_device import CommandDevice
from autocompress.measure.here import Here
from autocompress.measure.intervals import LOOK_CONFIDENCE, latency_of, relation
from autocompress.measure.quiet import RecentBlocks, quiet
from autocompress.measure.statistics import session_of
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile
from autocompress.supervisor import tell_nobody

LOOKS = 4, 8  # sessions after which it is looked whether they decide


@dataclass
class Sessions:
    """Files timed beside one reference, in sessions of their own.

    feeds: inputs of both, taken in turn. quiet_ms: of the reference on this machine when
    nobody disturbed it, where that is known from before. forks: each session runs in a copy of this process.
    """

    runtime: Runtime
    profile: HardwareProfile
    reference: Path
    feeds: Sequence[Feed]
    quiet_ms: float = math.inf
    forks: bool = False
    recent: RecentBlocks = field(default_factory=RecentBlocks, init=False)

    def record(self, candidate: Path, limits: BlockLimits = USUAL) -> tuple[TimingSession, Blocks]:
        """One session. limits: when it ends; where every moment counts, after its seconds. Raises CandidateFailed when
        a file does not open or run.
        """
        if self.profile.as_it_is:
            limits = replace(limits, quiet=sys.maxsize)
        began = time.monotonic()
        blocks, conditions = self._device.blocks(candidate, limits, self._quiet_blocks)
        session = session_of(blocks, self._fastest(blocks.reference), self.profile.percentile)
        ended = time.monotonic()
        self.recent.add(ended, blocks.reference)
        return replace(session, at_s=time.time(), seconds=ended - began, conditions=conditions), blocks

    def compare(
        self, candidate: Path, within: float, say: Callable[[str], None] = tell_nobody
    ) -> tuple[Latency, Relation]:
        """Sessions until they say how the candidate's time stands to the reference's, or are as many as there will be.
        within: what counts as the same, as a share. say: told of each session.
        """
        sessions: list[TimingSession] = []
        for look in LOOKS:
            while len(sessions) < look:
                say(f"session {len(sessions) + 1} of at most {LOOKS[-1]}")
                sessions.append(self.record(candidate)[0])
            latency = latency_of(sessions, confidence=LOOK_CONFIDENCE)
            found = relation(latency, within)
            if found != "undecided":
                break
        return latency, found

    @property
    def _device(self) -> Here | CommandDevice:
        if self.profile.command:
            return CommandDevice(self.profile.command, self.profile.threads, self.reference, self.feeds)
        return Here(self.runtime, self.profile, self.reference, self.feeds, forks=self.forks)

    def _quiet_blocks(self, reference: Floats) -> int:
        return int(quiet(reference, self._fastest(reference)).sum())

    def _fastest(self, reference: Floats) -> float:
        if self.profile.as_it_is:
            return math.inf
        return min(self.quiet_ms, self.recent.fastest(time.monotonic(), reference))

"""Sessions of files beside a reference, wherever the profile says, summed up."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from autocompress.comparison import Relation, TimingSession
from autocompress.data import Feed
from autocompress.latency import Latency
from autocompress.machine.blocks import USUAL, BlockLimits, Blocks
from autocompress.machine.quiet import RecentBlocks
from autocompress.measure.intervals import LOOK_CONFIDENCE, latency_of, relation
from autocompress.measure.place import Place, place_of
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
        began, every = time.monotonic(), self.profile.as_it_is
        if every:
            limits = replace(limits, quiet=sys.maxsize)
        known_ms = min(self.quiet_ms, self.recent.known(began))
        blocks, conditions = self._place.blocks(candidate, limits, None if every else known_ms)
        ended = time.monotonic()
        fastest = math.inf if every else min(self.quiet_ms, self.recent.fastest(ended, blocks.reference))
        session = session_of(blocks, fastest, self.profile.percentile)
        self.recent.add(ended, blocks.reference)
        device = "".join(self.profile.agents[:1]) or (self.profile.name if self.profile.elsewhere else "")
        found = replace(session, at_s=time.time(), seconds=ended - began, conditions=conditions, device=device)
        return found, blocks

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

    @cached_property
    def _place(self) -> Place:
        return place_of(self.runtime, self.profile, self.reference, self.feeds, forks=self.forks)

"""One session on this machine: both files opened anew and timed block by block."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autocompress.data import Feed
from autocompress.errors import CandidateFailed
from autocompress.machine.blocks import BlockLimits, Blocks, TooCoarse, record_blocks
from autocompress.machine.caches import eviction
from autocompress.machine.conditions import Conditions, Counters
from autocompress.machine.processors import taking_turns
from autocompress.machine.quiet import counting
from autocompress.measure.forked import can_fork, forked
from autocompress.measure.outputs import running
from autocompress.measure.timing import nothing, timed_call
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile


@dataclass(frozen=True)
class Here:
    """feeds: inputs of both files, taken in turn. forks: in a copy of this process."""

    runtime: Runtime
    profile: HardwareProfile
    reference: Path
    feeds: Sequence[Feed]
    forks: bool = False

    def blocks(self, candidate: Path, limits: BlockLimits, known_ms: float | None) -> tuple[Blocks, Conditions]:
        if self.forks and can_fork(self.runtime):
            return forked(lambda: self._recorded(candidate, limits, known_ms))
        return self._recorded(candidate, limits, known_ms)

    def _recorded(self, candidate: Path, limits: BlockLimits, known_ms: float | None) -> tuple[Blocks, Conditions]:
        before_each = eviction() if self.profile.cold else nothing
        with running():
            ours, theirs = (
                timed_call(self.runtime, self.runtime.open(path, self.profile), self.feeds, before_each)
                for path in (candidate, self.reference)
            )
            before = Counters.now()
            with taking_turns(possible=self._computes_here) as move:
                try:
                    blocks = record_blocks(ours, theirs, counting(known_ms), limits, move=move)
                except TooCoarse as error:
                    raise CandidateFailed(str(error)) from error
        return blocks, before.until(Counters.now())

    @property
    def _computes_here(self) -> bool:
        """Whether calls run in the thread that makes them, and in no other."""
        return self.profile.threads == 1 and type(self.runtime).clock is Runtime.clock

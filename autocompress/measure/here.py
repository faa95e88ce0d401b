"""One session on this machine: both files opened anew and timed block by block."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autocompress.arrays import Floats
from autocompress.comparison import Blocks, Conditions
from autocompress.data import Feed
from autocompress.measure.blocks import BlockLimits, record_blocks
from autocompress.measure.conditions import Counters
from autocompress.measure.forked import forked
from autocompress.measure.outputs import running
from autocompress.measure.processors import taking_turns
from autocompress.measure.timing import timed_call
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

    def blocks(
        self, candidate: Path, limits: BlockLimits, quiet_blocks: Callable[[Floats], int]
    ) -> tuple[Blocks, Conditions]:
        """What a session records. Raises CandidateFailed when a file does not open or run."""
        if self.forks and self.runtime.can_fork and hasattr(os, "fork"):
            return forked(lambda: self._recorded(candidate, limits, quiet_blocks))
        return self._recorded(candidate, limits, quiet_blocks)

    def _recorded(
        self, candidate: Path, limits: BlockLimits, quiet_blocks: Callable[[Floats], int]
    ) -> tuple[Blocks, Conditions]:
        with running():
            ours, theirs = (
                timed_call(self.runtime, self.runtime.open(path, self.profile), self.feeds)
                for path in (candidate, self.reference)
            )
            before = Counters.now()
            with taking_turns(possible=self._computes_here) as move:
                blocks = record_blocks(ours, theirs, quiet_blocks, limits, move=move)
        return blocks, before.until(Counters.now())

    @property
    def _computes_here(self) -> bool:
        """Whether calls run in the thread that makes them, and in no other."""
        return self.profile.threads == 1 and type(self.runtime).clock is Runtime.clock

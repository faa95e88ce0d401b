"""One session on this machine: both files opened anew and timed block by block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autocompress.data import Feed
from autocompress.errors import AutocompressError, CandidateFailed, one_line
from autocompress.machine.blocks import BlockLimits, Blocks, TooCoarse, record_blocks, warm_up
from autocompress.machine.caches import eviction
from autocompress.machine.conditions import Conditions, Counters
from autocompress.machine.gpu import gpu_throttled
from autocompress.machine.processors import taking_turns
from autocompress.machine.quiet import counting
from autocompress.machine.streams import Streams
from autocompress.machine.waiting import Waited, waited_here
from autocompress.machine.weighted import of_each_shape, weighted
from autocompress.measure.affinity import each_on_its_own
from autocompress.measure.forked import can_fork, forked
from autocompress.measure.outputs import running
from autocompress.measure.timing import nothing, timed_call
from autocompress.plugin.contract import Runtime
from autocompress.profile import PROCESSOR, HardwareProfile


@dataclass(frozen=True)
class Here:
    """feeds: inputs of both files, taken in turn, of each of the profile's shapes. forks: in a copy of this process."""

    runtime: Runtime
    profile: HardwareProfile
    reference: Path
    feeds: Sequence[Feed]
    forks: bool = False

    def blocks(self, candidate: Path, limits: BlockLimits, known_ms: float | None) -> tuple[Blocks, Conditions]:
        if self.forks and can_fork(self.runtime, self.profile):
            return forked(lambda: self._recorded(candidate, limits, known_ms))
        try:
            return self._recorded(candidate, limits, known_ms)
        except AutocompressError:
            raise
        except Exception as error:  # as in a fork: a runtime raises anything, such as when a GPU's memory is full
            raise CandidateFailed(f"{type(error).__name__}: {one_line(error)}") from error

    def _recorded(self, candidate: Path, limits: BlockLimits, known_ms: float | None) -> tuple[Blocks, Conditions]:
        before_each = eviction() if self.profile.cold else nothing
        waiting = waited_here(
            possible=self._computes_here and not self.profile.as_it_is,
            one_by_one=self.profile.cold or len(self.profile.weights) > 1,
        )
        with running(), waiting as (of_call, of_block), each_on_its_own(self.runtime, self.profile) as profile:
            ours, theirs = (self._opened(path, profile, before_each, of_call) for path in (candidate, self.reference))
            if self.profile.on_gpu:
                for call in (ours, theirs):
                    warm_up(call)
            before = Counters.now()
            with taking_turns(possible=self._computes_here) as move:
                try:
                    blocks = record_blocks(ours, theirs, counting(known_ms), limits, move=move, waited=of_block)
                except TooCoarse as error:
                    raise CandidateFailed(str(error)) from error
        conditions = before.until(Counters.now())
        if self.profile.on_gpu:
            conditions = replace(conditions, gpu_throttled=gpu_throttled(ours))
        return blocks, conditions

    def _opened(
        self, path: Path, profile: HardwareProfile, before_each: Callable[[], None], waited: Waited
    ) -> Callable[[], float]:
        """A file opened once, to be called by as many as the profile says."""
        session = self.runtime.open(path, profile)
        weights = self.profile.weights
        of_each = of_each_shape(self.feeds, weights)
        callers = [
            weighted([timed_call(self.runtime, session, feeds, before_each, waited) for feeds in of_each], weights)
            for _ in range(self.profile.streams)
        ]
        return callers[0] if len(callers) == 1 else Streams(callers)

    @property
    def _computes_here(self) -> bool:
        """Whether calls run in the thread that makes them, and in no other, and are timed by our clock."""
        one = self.profile.threads == self.profile.streams == 1
        return one and self.profile.provider == PROCESSOR and type(self.runtime).clock is Runtime.clock

"""Where files are timed: each beside the reference, while training goes on."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from autocompress.comparison import TimingSession
from autocompress.data import Feed, stored_feeds
from autocompress.machine.blocks import USUAL, BlockLimits
from autocompress.machine.cores import cores
from autocompress.measure.forked import can_fork, forked
from autocompress.measure.machine_lock import MachineLock
from autocompress.measure.memory_taken import memory_taken
from autocompress.measure.operators import operators_of
from autocompress.measure.repeats import Repeats
from autocompress.measure.sessions import Sessions
from autocompress.operator_kinds import by_kind
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile
from autocompress.storage.recorded_blocks import save_blocks
from autocompress.storage.store import Store
from autocompress.supervisor import MEASURE_BESIDE, Supervisor


@dataclass(frozen=True)
class CompareRequest:
    """A file to be timed beside another in one session. feeds: store key of the inputs, examples at the profile's
    batch. seconds: that the session may take, but for a model that is too slow for them.
    """

    candidate: Path
    reference: Path
    feeds: str
    seconds: float = USUAL.seconds


def needs_the_machine(profile: HardwareProfile) -> bool:
    """Whether what a search computes would be in the way of the files that it times."""
    return not profile.elsewhere and (
        profile.as_it_is or profile.on_gpu or profile.threads * profile.streams >= cores()
    )


@dataclass
class Target:
    """This machine, or the device that the profile names. store: holds the feeds and what sessions recorded. lock:
    agrees with the processes that compute. forks: each session runs in a copy of this process, which does nothing else.
    """

    profile: HardwareProfile
    runtime: Runtime
    store: Store
    lock: MachineLock
    supervisor: Supervisor
    forks: bool = False
    _sessions: dict[tuple[Path, int, str], Sessions] = field(default_factory=dict, init=False)
    _repeats: Repeats = field(default_factory=Repeats, init=False)

    def compare(self, request: CompareRequest) -> TimingSession:
        """One session of a file beside the reference. Raises CandidateFailed when it does not open or run.

        Computing goes on meanwhile, on the other cores. It stands still for a profile that takes all of them or for
        which every moment counts, and where too few blocks were quiet beside it, as long as that helps and there is
        time; never for a device elsewhere.
        """
        self.supervisor.check()
        began = time.monotonic() - self.lock.waited_s
        with self.supervisor.during(self._phase(), "measure"):
            sessions, limits = self._beside(request), BlockLimits.within(request.seconds)
            with self._among_others():
                session, blocks = sessions.record(request.candidate, limits)
            if session.busy and self._disturbs() and self._repeats.worth_it(limits.seconds):
                with self.lock.measuring(), self.supervisor.phases("measure"):
                    alone = sessions.record(request.candidate, limits)
                self._repeats.made(helped=not alone[0].busy)
                session, blocks = max((session, blocks), alone, key=lambda found: found[0].quiet / found[0].blocks)
            raw = save_blocks(self.store, blocks)
            return replace(session, raw=raw, seconds=time.monotonic() - self.lock.waited_s - began)

    def operators(self, path: Path, feeds: str) -> dict[str, float]:
        """Milliseconds of a call by kind of operator, the most first; nothing where the target does not tell. feeds:
        store key of the inputs. Raises CandidateFailed when the file does not run.
        """
        inputs: Sequence[Feed] = stored_feeds(self.store.load(feeds) or {})
        profiled = partial(operators_of, self.runtime, self.profile, path, inputs)
        with self.supervisor.during(self._phase(), "time by operator"), self._among_others():
            rows = forked(profiled) if self.forks and can_fork(self.runtime, self.profile) else profiled()
        return by_kind((row.operator, row.ms) for row in rows)

    def memory(self, path: Path, feeds: str) -> int:
        """Bytes that opening and calling a file take at most. feeds: store key of the inputs. Raises CandidateFailed
        when it does not run.
        """
        inputs: Sequence[Feed] = stored_feeds(self.store.load(feeds) or {})
        with self.supervisor.during(self._phase(), "memory"):
            return memory_taken(self.runtime, self.profile, path, inputs)

    def _phase(self) -> str:
        """What the time goes into: measuring while nobody computes, or beside those that do."""
        beside = not needs_the_machine(self.profile) and self.lock.others_work()
        return MEASURE_BESIDE if beside else "measure"

    def _among_others(self) -> AbstractContextManager[None]:
        """How those that compute behave during a session."""
        if needs_the_machine(self.profile):
            return self.lock.measuring()
        return self.lock.beside() if self._is_beside_others else nullcontext()

    def _disturbs(self) -> bool:
        """Whether this search computes beside a session, and would stand still for it."""
        return self._is_beside_others and self.lock.others_work()

    @property
    def _is_beside_others(self) -> bool:
        """Whether what this search computes runs on the same machine meanwhile."""
        return not self.profile.elsewhere and not needs_the_machine(self.profile)

    def _beside(self, request: CompareRequest) -> Sessions:
        """Sessions beside the reference, with what is remembered of its speed, as long as its file is the same."""
        key = request.reference, request.reference.stat().st_mtime_ns, request.feeds
        if key not in self._sessions:
            feeds: Sequence[Feed] = stored_feeds(self.store.load(request.feeds) or {})
            self._sessions = {key: Sessions(self.runtime, self.profile, request.reference, feeds, forks=self.forks)}
        return self._sessions[key]

"""Where files are timed: each beside the reference, while nothing else of the search computes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autocompress.budget import Budget
from autocompress.data import Feed, stored_feeds
from autocompress.latency import Latency
from autocompress.measure.effort import FULL, Effort
from autocompress.measure.machine_lock import MachineLock
from autocompress.measure.outputs import running
from autocompress.measure.statistics import no_faster
from autocompress.measure.timing import Timer, measure, timer
from autocompress.plugin.contract import Runtime
from autocompress.profile import HardwareProfile
from autocompress.storage.store import Store
from autocompress.supervisor import Supervisor


@dataclass(frozen=True)
class CompareRequest:
    """Files to be timed beside each other. feeds: store key of the inputs, examples at the profile's batch.

    A measurement ends early once it has decided what it is for: budget: on which side of it the file is. worth_below:
    that it is at this latency ratio or above. source: that it is no faster than the file it was made from.
    """

    candidate: Path
    reference: Path
    feeds: str
    effort: Effort = FULL
    budget: Budget | None = None
    worth_below: float | None = None
    source: Latency | None = None

    def decided(self, latency: Latency) -> bool:
        if self.budget is not None:
            return self.budget.decided(latency)
        return (self.source is not None and no_faster(latency, self.source)) or too_slow(latency, self.worth_below)

    def decided_though_disturbed(self, latency: Latency) -> bool:
        """Whether a disturbed measurement says all there is to know."""
        return self.budget is not None and self.budget.ruled_out(latency)


def too_slow(latency: Latency, worth_below: float | None) -> bool:
    """Whether a file is surely at or above a latency ratio."""
    return worth_below is not None and latency.reliable and latency.ratio_low >= worth_below


@dataclass
class LocalTarget:
    """This machine. store: holds the feeds. lock: agrees with the processes that compute."""

    profile: HardwareProfile
    runtime: Runtime
    store: Store
    lock: MachineLock
    supervisor: Supervisor
    _references: dict[tuple[Path, int, str], Timer] = field(default_factory=dict, init=False)

    def compare(self, request: CompareRequest) -> Latency:
        """Latency of a file beside the reference. Raises CandidateFailed when it does not open or run."""
        with self.supervisor.during("measure", "measure"):
            feeds = stored_feeds(self.store.load(request.feeds) or {})
            reference = self._reference(request, feeds)
            candidate = timer(self.runtime, self.runtime.open(request.candidate, self.profile), feeds)
            with self.lock.measuring(), running():
                return measure(
                    candidate,
                    reference,
                    self.profile,
                    effort=request.effort,
                    stop=request.decided,
                    anyway=request.decided_though_disturbed,
                )

    def _reference(self, request: CompareRequest, feeds: Sequence[Feed]) -> Timer:
        """The open reference, with what is remembered of its speed, as long as its file is the same."""
        key = request.reference, request.reference.stat().st_mtime_ns, request.feeds
        if key not in self._references:
            session = self.runtime.open(request.reference, self.profile)
            self._references = {key: timer(self.runtime, session, feeds)}
        return self._references[key]

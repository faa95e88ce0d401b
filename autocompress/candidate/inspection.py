"""What ``inspect`` asks of an open task, each by itself: what a strategy does to it, and where the time goes."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.places import places_of
from autocompress.candidate.reach import Reach, reach_of
from autocompress.candidate.sensitivity import GroupSensitivities, GroupSensitivity, unchanged_scored
from autocompress.candidate.structure import blamed_on
from autocompress.measure import operators_of
from autocompress.plain_model import scripted_part
from autocompress.plugin.contract import Applicable, OperatorTime, StructureStrategy

SHORTEST_CALL_S = 1e-6


@dataclass(frozen=True)
class Looked:
    """How much of a strategy's groups can go, as far as was looked. scored: examples that told it. is_done: whether
    all was tried that would be.
    """

    groups: Sequence[GroupSensitivity]
    scored: int
    is_done: bool


@dataclass
class Inspection:
    """Answers on one open task. All raise CandidateFailed naming the strategy whose code failed."""

    opened: OpenTask
    _groups: dict[str, GroupSensitivities] = field(default_factory=dict, init=False)

    def call_s(self) -> float:
        """Seconds of a call of the reference."""
        session, feed = self.opened.open(self.opened.folder.reference), self.opened.feeds[0]
        began = time.monotonic()
        session.run(feed)
        return max(time.monotonic() - began, SHORTEST_CALL_S)

    def operator_times(self) -> Sequence[OperatorTime]:
        """Of the reference's nodes; none when the target does not tell."""
        opened = self.opened
        with blamed_on(opened.runtime.name):
            return list(operators_of(opened.runtime, opened.profile, opened.folder.reference, opened.feeds) or ())

    def left_alone(self, strategy: str) -> dict[str, str]:
        """The parts that a strategy leaves as they are, and why; none of a scripted model, of which it leaves all."""
        context = self.opened.context
        if scripted_part(context.model) is not None:
            return {}
        with blamed_on(strategy):
            return dict(self.opened.plugins.strategy(strategy).left_alone(context))

    def places(self, parts: Collection[str]) -> dict[str, str]:
        """Where in the code these parts are called."""
        return places_of(self.opened.context.model, parts, self.opened.context.example_inputs)

    def reach(self, strategy: Applicable, exporter: str, macs: int) -> Reach:
        """macs: of the reference."""
        with blamed_on(strategy.name):
            return reach_of(self.opened, strategy, exporter, macs)

    def groups(self, strategy: str) -> int:
        """How many groups a strategy tells of."""
        return len(self._sensitivities(strategy).found())

    def sensitivity(self, strategy: str, within_s: float) -> Looked:
        """How much of each group of a strategy can go, after so many seconds more of looking, about."""
        looked_at = self._sensitivities(strategy)
        with blamed_on(strategy):
            looked_at.go_on(within_s)
            scored = len(unchanged_scored(self.opened).examples)
        return Looked(looked_at.found(), scored, looked_at.is_done)

    def _sensitivities(self, strategy: str) -> GroupSensitivities:
        if strategy not in self._groups:
            plugin = self.opened.plugins.strategy(strategy)
            with blamed_on(strategy):
                own = plugin.shrinkable_groups(self.opened.context) if isinstance(plugin, StructureStrategy) else ()
                self._groups[strategy] = GroupSensitivities(self.opened, strategy, list(own))
        return self._groups[strategy]


def scored_on(opened: OpenTask, count: int) -> OpenTask:
    """With at most so many validation examples."""
    return replace(opened, val=opened.val.sampled(count)) if count < len(opened.val) else opened

"""How much of each group of the reference can go, repaired and with nothing trained, before a point is lost.

Each group is shrunk alone, by a bisection over how many of its units go: a model that has lost more is taken to score
worse. Half of each group is tried first, then what is told by it, as long as there is time: the more of it, the nearer
the answers. How many examples are scored depends on how fast the model is. Of the layers those that lost channels are
refitted; a search refits those behind too, so that it may take more.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.budget import DEFAULT_DROP
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.repair.calibration import calibration_sample
from autocompress.candidate.repair.repaired import built_and_repaired
from autocompress.candidate.structure import blamed_on
from autocompress.data import KeptOutputs, ScoredSet, call
from autocompress.errors import CandidateFailed
from autocompress.nested import Nested
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import ShrinkableGroup
from autocompress.recipe import Recipe, Step

MOST_LOST = DEFAULT_DROP / 100  # of the metric: a point
REMOVALS_A_GROUP = 4  # it is known to a sixteenth then, which is nearer than so few examples tell
SCORED_EXAMPLES = (1000, 500, 250)  # of a slow model fewer; of the last, a point is two or three
SCORING_S = 3.0  # of one model, about
TIMED_FIRST, TIMED = 32, 3  # examples, and how often, to tell how slow it is
SCORED_AT_ONCE = 128
OF_ROUNDING = 1e-9  # of a difference of two scores


@dataclass(frozen=True)
class Removal:
    """count: units that went. lost: score of the unchanged model minus that of what is left, on the same examples; None
    where what is left gives no number. error: standard error of it.
    """

    count: int
    lost: float | None
    error: float | None


@dataclass(frozen=True)
class GroupSensitivity:
    """can_go: the largest removal tried that loses at most a point. cannot_go: the smallest that loses more. Each is
    None where no such one was tried, both where there was no time for any. repaired: whether what was left was.
    calibration: what on, as a recipe records it, of the last one tried. failed: why nothing can be told of it.
    """

    group: str
    units: int
    can_go: Removal | None = None
    cannot_go: Removal | None = None
    repaired: bool = False
    calibration: Mapping[str, Any] = field(default_factory=dict)
    failed: str | None = None


@dataclass(frozen=True)
class UnchangedScored:
    """The examples that every removal is scored on, and what is kept of the unchanged model's outputs for them."""

    examples: ScoredSet
    kept: KeptOutputs
    score: float


def unchanged_scored(opened: OpenTask) -> UnchangedScored:
    """On examples spread over those of the validation split that are scored; the same for all groups of a task."""
    return opened.context.once("sensitivity.unchanged", lambda: _scored(opened))


def _scored(opened: OpenTask) -> UnchangedScored:
    model, few = opened.context.model, opened.val.sampled(TIMED_FIRST)
    took: list[float] = []
    for _ in range(TIMED):
        began = time.perf_counter()
        kept_in_torch(model, few)
        took.append(time.perf_counter() - began)
    each = min(took) / len(few)
    many = next((count for count in SCORED_EXAMPLES if count * each <= SCORING_S), SCORED_EXAMPLES[-1])
    examples = opened.val.sampled(many)
    kept = kept_in_torch(model, examples)
    if kept is None:
        raise CandidateFailed("the model gives NaN or infinite outputs")
    return UnchangedScored(examples, kept, examples.value(kept))


class GroupSensitivities:
    """Of a strategy's groups, as far as was looked. is_done: whether all was tried that would be."""

    def __init__(self, opened: OpenTask, strategy: str, groups: Sequence[ShrinkableGroup]) -> None:
        self._opened = opened
        self._strategy = strategy
        self._bisections = [_Bisection(opened, strategy, group) for group in groups]
        self._steps = deque(self._bisections * REMOVALS_A_GROUP)
        self._of = max(1, len(self._steps))

    @property
    def is_done(self) -> bool:
        return not self._steps

    def go_on(self, within_s: float) -> None:
        """From where it was. within_s: seconds, about: what was begun is ended, and one removal is always tried unless
        it is 0.
        """
        ends, last = time.monotonic() + within_s, len(self._steps)
        while within_s and self._steps and (len(self._steps) == last or time.monotonic() < ends):
            bisection = self._steps.popleft()
            done = 1 - (len(self._steps) + 1) / self._of
            self._opened.supervisor.tell(f"sensitivity: {self._strategy}, {bisection.group.name}", done)
            bisection.step()

    def found(self) -> list[GroupSensitivity]:
        """In the order of the groups, those included that were not looked at."""
        return [bisection.found() for bisection in self._bisections]


class _Bisection:
    """Over the counts of one group."""

    def __init__(self, opened: OpenTask, strategy: str, group: ShrinkableGroup) -> None:
        self.group = group
        self._opened = opened
        self._strategy = strategy
        self._low, self._high = -1, len(group.counts)  # the counts between them are to be tried
        self._kept: dict[int, KeptOutputs | None] = {}  # by how many units went
        self._calibration: Mapping[str, Any] = {}
        self._failed: str | None = None

    @property
    def _unchanged(self) -> UnchangedScored:
        return unchanged_scored(self._opened)

    def step(self) -> None:
        """Try the middle one, where one is left."""
        if self._high - self._low <= 1 or self._failed is not None:
            return
        middle = (self._low + self._high) // 2
        count = self.group.counts[middle]
        try:
            self._kept[count] = self._kept_without(count)
            lost = self._lost(count)
        except CandidateFailed as error:
            self._failed = error.reason
            return
        if lost <= MOST_LOST + OF_ROUNDING:
            self._low = middle
        else:
            self._high = middle

    def found(self) -> GroupSensitivity:
        """As far as it has come."""
        name, units, counts = self.group.name, self.group.units, self.group.counts
        if self._failed is not None:
            return GroupSensitivity(name, units, failed=self._failed)
        can_go = self._removal(counts[self._low]) if self._low >= 0 else None
        cannot_go = self._removal(counts[self._high]) if self._high < len(counts) else None
        return GroupSensitivity(name, units, can_go, cannot_go, bool(self._calibration), self._calibration)

    def _kept_without(self, count: int) -> KeptOutputs | None:
        """Raises CandidateFailed."""
        opened, recipe = self._opened, Recipe((Step.of(self._strategy),))
        opened.supervisor.check()
        with blamed_on(self._strategy):
            plan = self.group.plan_without(count)
        sample = calibration_sample(opened.context)
        model, _, facts = built_and_repaired(opened, recipe, [plan], sample, narrowed_alone=True)
        self._calibration = facts or {}
        with blamed_on(self._strategy):
            return kept_in_torch(model, self._unchanged.examples)

    def _lost(self, count: int) -> float:
        """Score of the unchanged model minus that without ``count`` units; infinite where that is no number."""
        kept = self._kept[count]
        if kept is None:
            return math.inf
        lost = self._unchanged.score - self._unchanged.examples.value(kept)
        return lost if math.isfinite(lost) else math.inf

    def _removal(self, count: int) -> Removal:
        kept, before = self._kept[count], self._unchanged
        if kept is None or math.isinf(self._lost(count)):
            return Removal(count, None, None)
        return Removal(count, *before.examples.difference(before.kept, kept))


class _NotFinite(Exception):
    """Outputs are no numbers."""


def kept_in_torch(model: nn.Module, examples: ScoredSet) -> KeptOutputs | None:
    """What is kept of a model's outputs in evaluation mode; None where they are no numbers."""

    def pieces() -> Iterator[tuple[Mapping[str, Tensor], Nested]]:
        for batch in examples.split.batches(SCORED_AT_ONCE):
            rows = examples.layout.rows_of(call(evaluating(model), batch.inputs))
            if not torch.isfinite(rows[examples.layout.scored]).all():
                raise _NotFinite
            yield rows, batch.targets

    with torch.inference_mode():
        try:
            return examples.kept(pieces())
        except _NotFinite:
            return None

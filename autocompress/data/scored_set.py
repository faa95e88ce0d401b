"""A split as files are scored on it: its targets, what is kept of each file's outputs, scores and differences."""

import math
import time
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from autocompress.data.batch import Batch, joined_padded, take_rows
from autocompress.data.groups import BY_NAME, Groups, by_lengths, group_names, groups_of, kind_of_groups
from autocompress.data.layout import OutputLayout
from autocompress.data.lengths import lengths_of
from autocompress.data.scoring.resampled import RESAMPLING_S
from autocompress.data.scoring.scorer import KeptOutputs, Pieces, Scorer
from autocompress.data.scoring.scorers import outputs_like, scorer_of
from autocompress.data.split import Split, spread
from autocompress.errors import CandidateFailed, UsageError
from autocompress.evaluation import NORMAL, Chance, Score
from autocompress.group_losses import FEWEST_EXAMPLES, GroupLoss, GroupLosses
from autocompress.nested import Nested
from autocompress.task import Task

READ_AT_ONCE = 64  # targets
MEAN_WITHIN = 1e-4  # of a mean over examples: what float32 rounds
BY_GROUP_S = 3.0  # that a file may be compared group by group: a metric of the user's own may take long
CHANGED_PARTS = 4  # both files, lengths, and what is lost by length
CALLS_A_GROUP = 400  # of such a metric, for the error of both files
PERMUTATIONS = 20  # a tenth of what the interval of a metric of the user's own takes
FEWEST_PERMUTATIONS = 2  # that say how far they spread
PERMUTED_BYTES = 64 << 20  # of outputs, about, that are kept to be put beside other targets
FEWEST_PERMUTED, MOST_PERMUTED = 8, 512  # examples
CLEARLY = 3.0  # standard deviations of a permutation, by which those are better than the outputs as they are


class ScoredSet:
    """The examples of ``split``, scored by the task's metric; higher is better here, whatever the metric is. Raises
    UsageError when the metric does not fit the outputs and targets.
    """

    def __init__(self, task: Task, split: Split, layout: OutputLayout, scorer: Scorer | None = None) -> None:
        self.split = split
        self.layout = layout
        self._task = task
        self._scorer = scorer or scorer_of(task, layout, self._first)

    def __len__(self) -> int:
        return len(self.split)

    def on(self, split: Split) -> "ScoredSet":
        """Another split, scored alike."""
        return ScoredSet(self._task, split, self.layout, self._scorer)

    def _first(self, count: int) -> Batch:
        return self.split.take(torch.arange(min(count, len(self.split))))

    @property
    def maximize(self) -> bool:
        """Whether higher values of the metric itself are better."""
        return self._scorer.maximize

    @cached_property
    def targets(self) -> Nested:
        if self.split.memory is not None:
            return self.split.memory.targets
        return joined_padded([batch.targets for batch in self.split.batches(READ_AT_ONCE)], self._task.ignored)

    def sampled(self, count: int) -> "ScoredSet":
        """At most ``count`` of the examples, spread over the split."""
        return self.on(self.split.sampled(count))

    def sample_of(self, kept: KeptOutputs, count: int) -> KeptOutputs | None:
        """Of what was kept over the whole split what belongs to ``sampled(count)``; None where that cannot be told, and
        has to be kept anew.
        """
        return self._scorer.cut(kept, spread(len(self.split), count), len(self.split))

    def kept(self, pieces: Pieces) -> KeptOutputs:
        """What is kept of a file's outputs (``OutputLayout.rows``), so that they need not be. pieces: of all examples,
        in order, with their targets. It may raise CandidateFailed.
        """
        if not self._scorer.uses_targets or self.split.memory is not None or "targets" in self.__dict__:
            return self._scorer.kept(pieces, len(self.split))
        seen: list[Nested] = []  # so that nothing has to be read for them once more

        def noted() -> Pieces:
            for rows, targets in pieces:
                seen.append(targets)
                yield rows, targets

        kept = self._scorer.kept(noted(), len(self.split))
        self.targets = joined_padded(seen, self._task.ignored)
        return kept

    @property
    def _targets(self) -> Nested:
        """For the scorer: where it does without, they are not held."""
        return self.targets if self._scorer.uses_targets else None

    def value(self, kept: KeptOutputs) -> float:
        """The metric, higher is better. Raises CandidateFailed when the metric raises or gives no number."""
        return self._scorer.value(kept, self._targets)

    def score(self, kept: KeptOutputs, seed: int = 0) -> Score:
        """The metric with a 95 % interval over the examples. Raises CandidateFailed as ``value`` does."""
        found = self._scorer.estimate(kept, self._targets, seed)
        return Score(found.value, found.low, found.high)

    def difference(self, one: KeptOutputs, other: KeptOutputs, seed: int = 0) -> tuple[float, float]:
        """Score of ``one`` minus score of ``other`` on these examples, and its standard error."""
        return self._scorer.difference(one, other, self._targets, seed)

    def check_groups(self) -> None:
        """Raises UsageError for a ``Task.groups`` that gives no label for each example."""
        if self._task.groups is not None:
            group_names(self._task, self._first(READ_AT_ONCE))

    @cached_property
    def groups(self) -> Groups | None:
        """The groups that examples belong to; None where nothing tells them apart. It may raise UsageError."""
        targets = self._first(READ_AT_ONCE).targets
        kind = kind_of_groups(self._task, outputs_like(self.layout, targets), targets, len(self))
        return None if kind is None else groups_of(kind, self._task, self.split, self.targets)

    def by_group(self, own: KeptOutputs, reference: KeptOutputs, seed: int = 0) -> GroupLosses | None:
        """What a file loses against the reference in each group of examples that is large enough; groups on which the
        metric is undefined are left out. None where there are no groups, where what is kept of outputs is not by
        example, where it would take long, and of classes and tenths where the metric is no mean over examples: an area
        under a curve is nothing of one class. What the task itself calls a group is compared by any metric.
        """
        return None if self.groups is None else self._by(self.groups, own, reference, seed)

    def tells_examples(self, kept: KeptOutputs) -> bool:
        """Whether what was kept of a file's outputs can be told apart by example."""
        return self._scorer.cut(kept, torch.tensor([0]), len(self)) is not None

    def changed(
        self, own: KeptOutputs, reference: KeptOutputs, seconds: float
    ) -> tuple[Tensor, GroupLosses | None] | None:
        """What each example loses against the reference, (N,), NaN where the metric is undefined, and what examples
        lose by their length. None where the metric says nothing of one example, or that takes more than so many
        seconds.
        """
        part_s = seconds / CHANGED_PARTS
        before = self._scorer.each(reference, self._targets, len(self), part_s)
        if before is None or not self._scorer.of_examples:
            mean = math.nan if before is None else float(before.nanmean())
            if not math.isclose(mean, self.value(reference), rel_tol=MEAN_WITHIN, abs_tol=1e-6):
                return None
        now = self._scorer.each(own, self._targets, len(self), part_s)
        if before is None or now is None:
            return None
        lengths = lengths_of(self.split, self.layout.dynamic, part_s)
        by_length = None if lengths is None else self._by(by_lengths(lengths), own, reference, 0, part_s)
        return before - now, by_length

    def _by(
        self, groups: Groups, own: KeptOutputs, reference: KeptOutputs, seed: int, seconds: float = BY_GROUP_S
    ) -> GroupLosses | None:
        rows, few = list[GroupLoss](), list[str]()
        means = (self._is_mean_over_examples(kept, groups) for kept in (reference, own))
        if groups.by != BY_NAME and not all(means):
            return None
        counts = groups.of[groups.of >= 0].bincount(minlength=len(groups.names)).tolist()
        large = sum(count >= FEWEST_EXAMPLES for count in counts)
        if self._scorer.calls_in(seconds, own) < CALLS_A_GROUP * large:
            return None
        began, tried = time.monotonic(), 0
        for number, (name, count) in enumerate(zip(groups.names, counts, strict=True)):
            if count < FEWEST_EXAMPLES:
                few.append(name)
                continue
            if tried and large * (time.monotonic() - began) / tried > seconds:
                return None
            tried += 1
            examples = (groups.of == number).nonzero().flatten()
            theirs, mine = (self._scorer.cut(outputs, examples, len(self)) for outputs in (reference, own))
            if theirs is None or mine is None:
                return None
            targets = take_rows(self.targets, examples) if self._scorer.uses_targets else None
            try:
                before, now = (self._scorer.value(of, targets) for of in (theirs, mine))
                loss, error = self._scorer.difference(theirs, mine, targets, seed)
            except CandidateFailed:
                continue
            if all(map(math.isfinite, (before, now, loss, error))):
                rows.append(GroupLoss(name, count, before, now, loss, error))
        return GroupLosses(groups.by, tuple(rows), tuple(few))

    def _is_mean_over_examples(self, kept: KeptOutputs, groups: Groups) -> bool:
        """Whether the metric of all examples is the mean of what it is of two parts of them, each by its size: parts of
        different groups, in which it differs.
        """
        total = 0.0
        by_group = groups.of.argsort(stable=True)
        counted = by_group[groups.of[by_group] >= 0]
        for examples in (counted[: len(counted) // 3], counted[len(counted) // 3 :]):
            part = self._scorer.cut(kept, examples, len(self))
            targets = take_rows(self.targets, examples) if self._scorer.uses_targets else None
            if part is None or not len(examples):
                return False
            try:
                total += len(examples) * self._scorer.value(part, targets)
            except CandidateFailed:  # it is undefined there
                return False
        return math.isclose(total / len(counted), self.value(kept), rel_tol=MEAN_WITHIN, abs_tol=1e-6)

    def compared(self, own: KeptOutputs, reference: KeptOutputs, whole: Score) -> Score:
        """The score on a whole split, told from this sample of its examples: the reference's there and the difference
        between both on the sample, which is known several times better than either score on it (a control variate). The
        interval has the error of both.

        own, reference: what was kept of both on this sample. whole: the reference's score on the whole split.
        """
        sizes = {name: tuple(slice(size) for size in tensor.shape) for name, tensor in own.items()}
        beside = {name: tensor[sizes[name]] for name, tensor in reference.items()}  # without what only pads the sample
        difference, error = self.difference(own, beside)
        val, half = whole.val + difference, NORMAL * math.hypot(error, whole.error)
        return Score(val, val - half, val + half, sampled=len(self))

    def permutable(self) -> "ScoredSet | None":
        """A sample of which outputs are kept, for ``chance``; None where what is kept of all can be permuted."""
        whole = self._scorer.whole
        if whole is None:
            return None
        each = sum(t[:1].element_size() * t[:1].numel() for t in self.layout.rows_of(self.layout.like).values())
        count = max(FEWEST_PERMUTED, min(MOST_PERMUTED, PERMUTED_BYTES // max(each, 1)))
        return ScoredSet(self._task, self.split.sampled(count), self.layout, whole)

    def chance(self, kept: KeptOutputs, *, seed: int = 0, permutations: int = PERMUTATIONS) -> Chance | None:
        """What the metric gives for outputs that have nothing to do with the targets, and the standard deviation of
        that; where it is more, what one answer given for every example scores. Higher is better.

        Each output is scored against the target of another example, as in a permutation test (Ojala and Garriga,
        "Permutation Tests for Studying Classifier Performance", JMLR 11, 2010). The metric is called ``permutations``
        times, or as often as can be afforded. Permutations that it cannot score, because it raises or is not finite,
        are left out; None when fewer than two are left. Raises UsageError when they clearly score better than the
        outputs as they are: the metric rewards what is worse then.
        """
        generator = torch.Generator().manual_seed(seed)
        found: list[float] = []
        began = time.monotonic()
        affordable = self._scorer.calls_in(RESAMPLING_S, kept) >= FEWEST_PERMUTATIONS + 1
        for _ in range(permutations if affordable else 0):
            if time.monotonic() - began > RESAMPLING_S:
                break
            order = torch.randperm(len(self), generator=generator)
            try:
                found.append(self._scorer.permuted(kept, take_rows(self.targets, order)))
            except Exception:  # the user's metric raises anything
                continue
        scores = [value for value in found if math.isfinite(value)]
        if len(scores) < FEWEST_PERMUTATIONS:
            return None
        mean, spread_out = float(np.mean(scores)), float(np.std(scores, ddof=1))
        self._refuse_reversed(kept, mean, spread_out)
        return Chance(max(mean, self._of_one_answer(kept, mean)), spread_out)

    def _refuse_reversed(self, kept: KeptOutputs, permuted: float, deviation: float) -> None:
        """Raise UsageError when the metric, of which nobody but the task says so, is not better when higher."""
        if self._scorer.surely:
            return
        own, sign = self.value(kept), self._scorer.sign
        if not permuted - own > CLEARLY * deviation + 1e-6 * abs(own):
            return
        other = "give Task(maximize=False)" if self.maximize else "take maximize=False out of Task"
        raise UsageError(
            f"the metric {self._task.metric_name} rewards what is worse: it is {sign * own:.4g} for the reference's "
            f"outputs and {sign * permuted:.4g} when each stands beside another example's target; {other}, or "
            "check outputs against targets"
        )

    def _of_one_answer(self, kept: KeptOutputs, otherwise: float) -> float:
        try:
            score = self._scorer.constant(kept, self.targets)
        except Exception:  # the user's metric raises anything
            return otherwise
        return score if math.isfinite(score) else otherwise

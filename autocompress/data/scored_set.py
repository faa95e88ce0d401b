"""A split as files are scored on it: its targets, what is kept of each file's outputs, scores and differences."""

import math
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from autocompress.data.batch import joined_padded, take_rows
from autocompress.data.layout import OutputLayout
from autocompress.data.scoring.scorer import Kept, Scorer
from autocompress.data.scoring.scorers import scorer_of
from autocompress.data.split import Split, spread
from autocompress.evaluation import NORMAL, Chance, Score
from autocompress.nested import Nested
from autocompress.task import Task

READ_AT_ONCE = 1024  # targets
PERMUTATIONS = 20  # a tenth of what the interval of a metric of the user's own takes
FEWEST_PERMUTATIONS = 2  # that say how far they spread


class ScoredSet:
    """The examples of ``split``, scored by the task's metric; higher is better, whatever the metric is."""

    def __init__(self, task: Task, split: Split, layout: OutputLayout, scorer: Scorer | None = None) -> None:
        self.split = split
        self.layout = layout
        self._task = task
        self._scorer = scorer or scorer_of(task, layout)

    def __len__(self) -> int:
        return len(self.split)

    @cached_property
    def targets(self) -> Nested:
        if self.split.memory is not None:
            return self.split.memory.targets
        return joined_padded([batch.targets for batch in self.split.batches(READ_AT_ONCE)], self._task.ignored)

    def sampled(self, count: int) -> "ScoredSet":
        """At most ``count`` of the examples, spread over the split."""
        return ScoredSet(self._task, self.split.sampled(count), self.layout, self._scorer)

    def sample_of(self, kept: Kept, count: int) -> Kept:
        """Of what was kept over the whole split what belongs to ``sampled(count)``."""
        return take_rows(dict(kept), spread(len(self.split), count))  # type: ignore[no-any-return]

    def keep(self, rows: Mapping[str, Tensor], targets: Nested) -> Kept:
        """What is kept of the outputs (``OutputLayout.rows``) for some of the examples."""
        return self._scorer.keep(rows, targets)

    @staticmethod
    def joined(pieces: Iterable[Kept]) -> Kept:
        """What was kept of consecutive pieces of the split; where they differ in length, padded with zeros, which stand
        beside targets that do not count.
        """
        return joined_padded([dict(piece) for piece in pieces])  # type: ignore[no-any-return]

    def value(self, kept: Kept) -> float:
        """The metric, higher is better. It may raise what the metric does."""
        return self._scorer.value(kept, self.targets)

    def score(self, kept: Kept, seed: int = 0) -> Score:
        """The metric with a 95 % interval over the examples."""
        found = self._scorer.estimate(kept, self.targets, seed)
        return Score(found.value, found.low, found.high)

    def difference(self, one: Kept, other: Kept, seed: int = 0) -> tuple[float, float]:
        """Score of ``one`` minus score of ``other`` on these examples, and its standard error."""
        return self._scorer.difference(one, other, self.targets, seed)

    def compared(self, own: Kept, reference: Kept, whole: Score) -> Score:
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

    def chance(self, kept: Kept, *, seed: int = 0, permutations: int = PERMUTATIONS) -> Chance | None:
        """What the metric gives for outputs that have nothing to do with the targets, and the standard deviation of
        that, in the metric's own unit; where it is more, what one answer given for every example scores.

        Each output is scored against the target of another example, as in a permutation test (Ojala and Garriga,
        "Permutation Tests for Studying Classifier Performance", JMLR 11, 2010). The metric is called ``permutations``
        times. Permutations that it cannot score, because it raises or is not finite, are left out; None when fewer than
        two are left.
        """
        generator = torch.Generator().manual_seed(seed)
        found: list[float] = []
        for _ in range(permutations):
            order = torch.randperm(len(self), generator=generator)
            try:
                found.append(self._scorer.value(kept, take_rows(self.targets, order)))
            except Exception:  # the user's metric raises anything
                continue
        scores = [value for value in found if math.isfinite(value)]
        if len(scores) < FEWEST_PERMUTATIONS:
            return None
        mean = float(np.mean(scores))
        return Chance(max(mean, self._of_one_answer(kept, mean)), float(np.std(scores, ddof=1)))

    def _of_one_answer(self, kept: Kept, otherwise: float) -> float:
        try:
            score = self._scorer.constant(kept, self.targets)
        except Exception:  # the user's metric raises anything
            return otherwise
        return score if math.isfinite(score) else otherwise

"""Accuracy: of the outputs the answered classes are kept, a byte or two for each place, and no interval is drawn."""

import math

import torch
from torch import Tensor

from autocompress.classes import answers_of, class_axis, likeliest
from autocompress.data.batch import joined_padded
from autocompress.data.scoring.scorer import Estimate, KeptOutputs, Pieces, Scorer
from autocompress.errors import CandidateFailed
from autocompress.evaluation import NORMAL
from autocompress.nested import Nested

ANSWERS = "answers"


class AnswersScorer(Scorer):
    """Share of places answered with the label of the target, or with the likeliest class of a soft one. Errors count
    examples, whose places are not independent of each other (the ratio estimator of cluster sampling: Cochran,
    "Sampling Techniques", 3rd edition, 1977, chapter 6).
    """

    of_examples = True

    def kept(self, pieces: Pieces, examples: int) -> KeptOutputs:
        answered = [self._answers(rows[self.layout.scored], targets) for rows, targets in pieces]
        kept: Tensor = joined_padded(answered)  # with zeros, beside targets that do not count
        return {ANSWERS: kept}

    def _answers(self, outputs: Tensor, targets: Nested) -> Tensor:
        last = self.task.classes_last
        few = outputs.shape[class_axis(outputs, targets, last)] <= 256
        return answers_of(outputs, targets, last).to(torch.uint8 if few else torch.int32)

    def value(self, kept: KeptOutputs, targets: Nested) -> float:
        return _ratio(*self._counts(kept, targets))[0]

    def estimate(self, kept: KeptOutputs, targets: Nested, seed: int) -> Estimate:
        """Wilson's interval (Wilson 1927) of as many independent places as have the same error."""
        right, places = self._counts(kept, targets)
        share, error = _ratio(right, places)
        independent = share * (1 - share) / error**2 if error > 0 else 0.0
        count = min(max(independent, len(right)), float(places.sum()))
        return Estimate(share, *wilson(share, count))

    def difference(self, one: KeptOutputs, other: KeptOutputs, targets: Nested, seed: int) -> tuple[float, float]:
        """The error counts at least one example that disagrees."""
        (right, places), (others, _) = self._counts(one, targets), self._counts(other, targets)
        difference, error = _ratio(right - others, places)
        return difference, max(error, 1 / len(places)) if len(places) > 1 else 1.0

    def each(self, kept: KeptOutputs, targets: Nested, of: int, seconds: float) -> Tensor:
        right, places = self._counts(kept, targets)
        return right / places  # NaN where no place counts

    def constant(self, kept: KeptOutputs, targets: Nested) -> float:
        """Of the commonest class among the answers."""
        answers = kept[ANSWERS]
        labels = self._labels(answers, targets)
        commonest = answers.flatten().mode().values
        return float((labels == commonest)[labels != self.task.ignored].double().mean())

    def _counts(self, kept: KeptOutputs, targets: Nested) -> tuple[Tensor, Tensor]:
        """How many places of each example are right, and how many count -> (N,), (N,), float64."""
        answers = kept[ANSWERS]
        labels = self._labels(answers, targets)
        answers = answers[tuple(slice(size) for size in labels.shape)]  # a sample may be padded to less than the whole
        counted = labels != self.task.ignored
        right = (answers == labels) & counted
        return right.flatten(1).sum(1).double() if right.dim() > 1 else right.double(), (
            counted.flatten(1).sum(1).double() if counted.dim() > 1 else counted.double()
        )

    def _labels(self, answers: Tensor, targets: Nested) -> Tensor:
        """Of soft labels the likeliest class; a place where none is likely only pads a shorter example."""
        if targets.dim() == answers.dim():
            return targets  # type: ignore[no-any-return]
        return likeliest(targets).masked_fill((targets <= 0).all(1), self.task.ignored)


def _ratio(parts: Tensor, wholes: Tensor) -> tuple[float, float]:
    """Sum of the parts over the sum of the wholes, each (N,), and its standard error. Raises CandidateFailed."""
    total, count = float(wholes.sum()), len(parts)
    if not total:
        raise CandidateFailed("none of the labels counts: all are the loss's ignored one")
    share = float(parts.sum()) / total
    if count < 2:
        return share, 0.0
    residuals = parts - share * wholes
    return share, float(residuals.std()) * math.sqrt(count) / total


def wilson(share: float, count: float) -> tuple[float, float]:
    """95 % interval of a share of ``count`` (Wilson 1927)."""
    z = NORMAL
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)

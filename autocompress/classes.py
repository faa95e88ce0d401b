"""Class logits and the labels they are judged by."""

import torch
from torch import Tensor

IGNORED = -100  # the label that torch's cross entropy leaves out unless it is told another
SUMS_TO_ONE = 1e-3  # how far the sum of the probabilities of a soft label may be from 1


def class_axis(outputs: Tensor, targets: Tensor, last: bool = False) -> int:
    """The axis of ``outputs`` that holds the classes: the second as in cross_entropy, else the last. last: whether it
    is known to be the last, which as many places as classes hide.
    """
    if last:
        return -1
    second = outputs.shape == targets.shape or outputs.shape[:1] + outputs.shape[2:] == targets.shape
    return 1 if second else -1


def class_count(outputs: Tensor, targets: Tensor) -> int | None:
    """How many classes ``outputs`` tells apart, when ``targets`` are their labels: whole numbers, one for each place of
    the outputs beside the axis of two classes or more, or probabilities over that axis (one-hot or smoothed). None
    otherwise, as in regression; what the task calls its loss and its metric does not matter.
    """
    if outputs.dim() < 2:
        return None
    if is_soft(outputs, targets):
        return outputs.shape[1]
    if targets.is_floating_point():
        return None
    axis = class_axis(outputs, targets) % outputs.dim()
    labelled = outputs.shape[:axis] + outputs.shape[axis + 1 :] == targets.shape
    return outputs.shape[axis] if labelled and outputs.shape[axis] > 1 else None


def is_soft(outputs: Tensor, targets: Tensor) -> bool:
    """Whether ``targets`` are probabilities of the classes on the second axis: as many numbers as ``outputs`` has, none
    below 0, with a sum of 1 at each place.
    """
    if outputs.shape != targets.shape or outputs.dim() < 2 or outputs.shape[1] < 2:
        return False
    return bool((targets >= 0).all() and ((targets.sum(1, dtype=torch.float64) - 1).abs() <= SUMS_TO_ONE).all())


def labels_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """The labels as whole numbers, one for each place: of soft labels the likeliest class."""
    return likeliest(targets) if is_soft(outputs, targets) else targets


def likeliest(soft: Tensor) -> Tensor:
    """The likeliest class of soft labels, which may be bool, over the second axis."""
    return soft.to(torch.float32).argmax(1)


def answers_of(outputs: Tensor, targets: Tensor, last: bool = False) -> Tensor:
    """The class with the largest output, one for each place, shaped as ``labels_of``. last: as for ``class_axis``."""
    return outputs.argmax(class_axis(outputs, targets, last))


def accuracy(outputs: Tensor, targets: Tensor, ignored: int = IGNORED) -> float:
    """Share of places whose largest output is the target's class, 0..1; those labelled ``ignored`` do not count.
    Outputs (N, K), (N, K, ...) or (N, ..., K) over labels (N, ...) or soft labels (N, K, ...).
    """
    labels = labels_of(outputs, targets)
    counted = labels != ignored
    return float((answers_of(outputs, targets) == labels)[counted].float().mean())

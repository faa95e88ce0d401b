"""How far a student's output is from the teacher's, by what the output is: scalars, 0 where they are the same."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_SPREAD = 0.1  # of the output's: a channel that is nearly always the same would count too much


def divergence(student: Tensor, teacher: Tensor, axis: int, temperature: float, counted: Tensor | None) -> Tensor:
    """T^2 KL(teacher || student) of class logits softened by ``temperature``, the mean over places. counted: which
    places count, shaped as the labels; None for all.
    """
    if counted is not None and not bool(counted.all()):
        student, teacher = (logits.movedim(axis, -1)[counted] for logits in (student, teacher))
        axis = -1
    soft = F.log_softmax(student / temperature, axis)
    target = F.log_softmax(teacher / temperature, axis)
    places = max(soft.numel() // soft.shape[axis], 1)
    return temperature**2 * (F.kl_div(soft, target, reduction="sum", log_target=True) / places)


def standardised_error(student: Tensor, teacher: Tensor, spread: Tensor) -> Tensor:
    """The mean squared error in units of ``spread`` (``channel_spread``)."""
    return F.mse_loss(student / spread, teacher / spread)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of the angle between the rows (N, D), the mean over examples."""
    return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()


def channel_spread(outputs: Iterator[Tensor], axis: int) -> Tensor:
    """The standard deviation of each channel of an output over batches of it, in a shape that broadcasts to it."""
    count, total, squares, dims = 0, torch.zeros(()), torch.zeros(()), 0
    for output in outputs:
        dims, axis = output.dim(), axis % output.dim()
        rows = output.double().movedim(axis, -1).reshape(-1, output.shape[axis])
        count, total, squares = count + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
    mean = total / count
    spread = (squares / count - mean.square()).clamp(min=0).sqrt().float()
    least = LEAST_SPREAD * float(spread.mean())
    shape = [1] * dims
    shape[axis] = -1
    return spread.clamp(min=least or 1.0).view(shape)

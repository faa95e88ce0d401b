"""How far a student's output is from the teacher's, by what the output is: scalars, 0 where they are the same."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

OF_OWN_SIZE = 0.1  # of a channel's own size: one that is nearly always the same would count too much
OF_MEAN_SPREAD = 1e-3  # of the output's mean spread, for one that is nearly always 0


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
    """The standard deviation of each channel of an output over batches of it, in a shape that broadcasts to it: at
    least a tenth of the channel's root mean square.
    """
    count, total, squares, dims = 0, torch.zeros(()), torch.zeros(()), 0
    for output in outputs:
        dims, axis = output.dim(), axis % output.dim()
        rows = output.double().movedim(axis, -1).reshape(-1, output.shape[axis])
        count, total, squares = count + len(rows), total + rows.sum(0), squares + rows.square().sum(0)
    size = squares / count
    spread = (size - (total / count).square()).clamp(min=0).sqrt()
    spread = torch.maximum(spread, OF_OWN_SIZE * size.sqrt())
    shape = [1] * dims
    shape[axis] = -1
    return spread.clamp(min=OF_MEAN_SPREAD * float(spread.mean()) or 1.0).float().view(shape)

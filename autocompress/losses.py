"""The losses that a task names: of the output that is scored, and one tensor of targets."""

from torch import Tensor
from torch.nn import functional as F

from autocompress.classes import IGNORED, class_axis, is_soft
from autocompress.errors import UsageError


def cross_entropy(outputs: Tensor, targets: Tensor, last: bool = False) -> Tensor:
    """Of labels, whole numbers or probabilities (``torch.nn.functional.cross_entropy``), classes on the second axis or
    the last; places labelled -100 do not count. last: as for ``class_axis``.
    """
    if is_soft(outputs, targets):
        return F.cross_entropy(outputs, targets.to(outputs.dtype))
    outputs = outputs.movedim(class_axis(outputs, targets, last), 1)
    return F.cross_entropy(outputs, targets.long(), ignore_index=IGNORED)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error. Targets that differ from the outputs by axes of length one are brought to their shape; any
    other difference is refused, since the difference of the two would be taken of every pair. Raises UsageError.
    """
    return F.mse_loss(outputs, as_shaped(outputs, targets).to(outputs.dtype))


def as_shaped(outputs: Tensor, targets: Tensor) -> Tensor:
    """Targets in the shape of the outputs. Raises UsageError when they differ by more than axes of length one."""
    if outputs.shape == targets.shape:
        return targets
    if [size for size in outputs.shape if size != 1] == [size for size in targets.shape if size != 1]:
        return targets.reshape(outputs.shape)
    raise UsageError(
        f"targets of shape {tuple(targets.shape)} for outputs of shape {tuple(outputs.shape)}: an error is taken of "
        "numbers that stand for each other; give targets of the outputs' shape"
    )

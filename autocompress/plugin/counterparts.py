"""What a structural step made of the layers that were there before, so that the core can repair them."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Counterpart:
    """A layer of the changed model, and the one before the step that it stands for.

    layer: its name in the changed model. original: the name of the other in ``Counterparts.whole``. outputs: which of
    the original's output channels it still has, in its own order: features of a linear layer, channels of a convolution
    or a norm, of a recurrent layer those of its output, one direction after the other. inputs: the same of its input
    channels; None where what it reads is nothing that the original read (the second of two thin layers).
    """

    layer: str
    original: str
    outputs: tuple[int, ...]
    inputs: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Counterparts:
    """whole: computes what the model computed before the step, in evaluation mode. layers: in any order; a layer that
    has no counterpart (the first of two thin layers) is not named.
    """

    whole: nn.Module
    layers: tuple[Counterpart, ...]

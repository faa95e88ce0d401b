"""The words for what can shrink: units that go together, and the parts of a model that stay as they are."""

from collections.abc import Iterable
from dataclasses import dataclass

CHANNELS, RECURRENT, HEADS, MLP = "channels", "recurrent units", "heads", "mlp"
EVERY_KIND = frozenset({CHANNELS, RECURRENT, HEADS, MLP})


def remaining(width: int, gone: Iterable[int]) -> list[int]:
    """What is left of so many channels or units, ascending."""
    without = set(gone)
    return [i for i in range(width) if i not in without]


@dataclass(frozen=True)
class Member:
    """A layer's part in a group. side: "out" or "in". index i of it belongs to unit ``units[i]``."""

    module: str
    side: str
    indices: tuple[int, ...]
    units: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Units that go together. root: names the group, and is the layer whose outputs are counted.

    blocks: a removal takes equally many units from each of this many equal runs (the directions of a recurrent layer,
    the groups of a convolution or a norm). macs: multiply-accumulates of one example in the layers that lose work with
    the group.
    """

    root: str
    kind: str
    size: int
    members: tuple[Member, ...]
    blocks: int = 1
    macs: float = 1.0


@dataclass(frozen=True)
class LeftAlone:
    """A part that could shrink by its kind and is left as it is."""

    module: str
    kind: str
    reason: str


@dataclass(frozen=True)
class FoundGroups:
    """groups: what can shrink, in the order in which the model calls it. left: the parts that cannot."""

    groups: tuple[Group, ...]
    left: tuple[LeftAlone, ...]

    @property
    def reasons(self) -> dict[str, str]:
        """Why each part is left, by the name of its module."""
        return {part.module or "the model": part.reason for part in self.left}

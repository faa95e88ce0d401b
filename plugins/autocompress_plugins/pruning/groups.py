"""The words for what can shrink: units that go together, and the parts of a model that stay as they are."""

from dataclasses import dataclass

CHANNELS, RECURRENT, HEADS, MLP = "channels", "recurrent units", "heads", "mlp"


@dataclass(frozen=True)
class Member:
    """A module's part in a group. side: "out", "in" or "heads". index i of it belongs to unit ``units[i]``."""

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
class Left:
    """A part that could shrink by its kind and is left as it is."""

    module: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """groups: what can shrink, in the order of the model. left: the parts that cannot."""

    groups: tuple[Group, ...]
    left: tuple[Left, ...]

    def of(self, kinds: frozenset[str]) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.kind in kinds)

    def left_of(self, kinds: frozenset[str]) -> tuple[Left, ...]:
        return tuple(part for part in self.left if part.kind in kinds)

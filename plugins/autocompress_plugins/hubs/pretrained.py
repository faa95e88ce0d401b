"""What pretrained models of any hub have in common: their learning rates, and smaller ones of their family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from autocompress_plugins.layer_kinds import BATCH_NORMS

# Peaks for AdamW; of transformers about those of Devlin et al., "BERT", 2019. Batch norms keep higher ones in check.
BATCH_NORM_RATES = (1e-4, 2e-4, 5e-4, 1e-3)
OTHER_RATES = (2e-5, 3e-5, 5e-5, 1e-4)


def learning_rates_of(model: nn.Module) -> tuple[float, ...]:
    """The peak learning rates to train a pretrained model on with."""
    return BATCH_NORM_RATES if any(isinstance(m, BATCH_NORMS) for m in model.modules()) else OTHER_RATES


@dataclass(frozen=True)
class FamilyMember:
    """name: what it is loaded by. size: of its weights, in any unit that all of a family share."""

    name: str
    size: float


@dataclass(frozen=True)
class PretrainedStudents:
    """Of ``Task.student``: the member of the family that is as wide as asked, about. Weights grow with the width
    squared. members: with their widths, at least one; another one that is downloaded makes no other task, and a search
    that has begun keeps those it knows.
    """

    members: tuple[tuple[float, str], ...]
    build: Callable[[str], nn.Module]

    of_this_machine = True

    @property
    def widths(self) -> tuple[float, ...]:
        return tuple(width for width, _ in self.members)

    def with_members(self, members: tuple[tuple[float, str], ...]) -> "PretrainedStudents":
        return replace(self, members=members)

    def __call__(self, width: float) -> nn.Module:
        return self.build(min(self.members, key=lambda member: abs(member[0] - width))[1])


def students_of(
    size: float, family: Sequence[FamilyMember], build: Callable[[str], nn.Module]
) -> PretrainedStudents | None:
    """Of a model with weights of ``size``; None where no member of its family has fewer."""
    smaller = sorted({(round((m.size / size) ** 0.5, 3), m.name) for m in family if m.size < size})
    return PretrainedStudents(tuple(smaller), build) if smaller else None

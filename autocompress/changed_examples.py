"""Which examples a compressed model does worse on, and whether long ones lose more."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autocompress.group_losses import GroupLosses


@dataclass(frozen=True)
class ChangedExample:
    """number: in the validation split, from 0. loss: the reference's score on it minus the file's, in the metric's
    unit. target, reference, own: the right answer and those of both models, in words; empty where an answer is no class
    and no single number. picture: the input as a PNG in base64; empty where it is no picture.
    """

    number: int
    loss: float
    target: str = ""
    reference: str = ""
    own: str = ""
    picture: str = ""


@dataclass(frozen=True)
class ChangedExamples:
    """worse, better: how many of all ``examples`` score worse and better than with the reference. most: of those that
    lost most, the ones whose outputs changed most. by_length: what examples lose by their length; None where all are
    as long. sampled_of: how many there are, where these are a sample of them.
    """

    examples: int
    worse: int
    better: int
    most: tuple[ChangedExample, ...]
    by_length: GroupLosses | None = None
    sampled_of: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "most": [asdict(example) for example in self.most],
            "by_length": None if self.by_length is None else self.by_length.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ChangedExamples":
        by_length = value["by_length"]
        return cls(
            value["examples"],
            value["worse"],
            value["better"],
            tuple(ChangedExample(**example) for example in value["most"]),
            None if by_length is None else GroupLosses.from_json(by_length),
            value.get("sampled_of"),
        )

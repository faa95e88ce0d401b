"""Whether a limit is kept: met, not met, or undecided, with the reason. A value of its own, never a missing number."""

from dataclasses import dataclass
from typing import Literal

Answer = Literal["met", "not met", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """reason: one line for a user, with the numbers that it follows from."""

    answer: Answer
    reason: str

    @property
    def decided(self) -> bool:
        return self.answer != "undecided"

"""Whether a session is made once more while those that compute stand still."""

from dataclasses import dataclass

REPEATED_IN_VAIN = (
    3  # repeated sessions in a row that were busy all the same: what disturbs is not what is computed here
)
REPEATED_AFTER = 10  # sessions that were not repeated, before it is tried again


@dataclass
class Repeats:
    """Of sessions that were busy beside what is computed: it costs as much again, and all workers wait for it."""

    _in_vain: int = 0
    _left_out: int = 0

    def worth_it(self) -> bool:
        """Asked of each."""
        if self._in_vain < REPEATED_IN_VAIN:
            return True
        self._left_out = (self._left_out + 1) % (REPEATED_AFTER + 1)
        return self._left_out == 0

    def made(self, helped: bool) -> None:
        """helped: whether the repeated one was not busy."""
        self._in_vain = 0 if helped else self._in_vain + 1

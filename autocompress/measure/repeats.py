"""Whether a session is made once more while those that compute stand still."""

from dataclasses import dataclass

REPEATED_IN_VAIN = 3  # repeated ones in a row that were busy all the same: what disturbs is not what is computed here
REPEATED_S = 0.3  # of a session; to wait until those that compute stand still, at the end of a step, takes as long
REPEATED_AFTER = 10  # sessions that were not repeated, before it is tried again


@dataclass
class Repeats:
    """Of sessions that were busy beside what is computed: it costs as much again, and all workers wait for it."""

    _in_vain: int = 0
    _left_out: int = 0

    def worth_it(self, seconds: float) -> bool:
        """Asked of each. seconds: that it may take."""
        if seconds < REPEATED_S:
            return False
        if self._in_vain < REPEATED_IN_VAIN:
            return True
        self._left_out = (self._left_out + 1) % (REPEATED_AFTER + 1)
        return self._left_out == 0

    def made(self, helped: bool) -> None:
        """helped: whether the repeated one was not busy."""
        self._in_vain = 0 if helped else self._in_vain + 1

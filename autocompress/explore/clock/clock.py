"""Time spent and left, over resumes, by a clock that nobody can set back."""

import time
from collections.abc import Callable


class Clock:
    """limit_s: the promise, resumes and finishing included. spent_s: by earlier processes."""

    def __init__(self, limit_s: float, spent_s: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self._spent_s = spent_s
        self._now = now
        self._began = now()

    def elapsed(self) -> float:
        return self._spent_s + self._now() - self._began

    def since_start(self) -> float:
        """Of this process."""
        return self._now() - self._began

    def left(self) -> float:
        return max(0.0, self.limit_s - self.elapsed())

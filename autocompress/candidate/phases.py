"""Where the time goes: seconds by what they were spent on."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OTHER = "other"


class Phases:
    """``with phases("train"): ...`` counts for "train", but for what an inner phase takes. Outside of any: "other"."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._open: list[str] = [OTHER]
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._since = now()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._count()
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def taken(self) -> dict[str, float]:
        """Seconds of each phase since this was last asked."""
        self._count()
        seconds, self._seconds = dict(self._seconds), defaultdict(float)
        return seconds

    def skip(self) -> None:
        """What has passed since the last phase is nobody's: this process was idle."""
        self._since = self._now()

    def _count(self) -> None:
        now = self._now()
        self._seconds[self._open[-1]] += now - self._since
        self._since = now

"""Whoever the computing side answers to: it is told what is done, counts the time, and may end it at a safe point."""

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from autocompress.errors import Interrupted

OTHER = "other"
MEASURE_BESIDE = "measure_beside"  # the phase of measuring while others compute; while nobody does it is "measure"


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


Tell = Callable[[str, float | None], None]


def tell_nobody(*_: object) -> None:
    """In place of a function that is told something."""


@dataclass(frozen=True)
class Supervisor:
    """tell: told what happens now, and which fraction of it is done. note: told what a user should read.

    stop: asked at safe points; once True, the work ends there. adapt: called at safe points, to follow what else the
    machine does.
    """

    tell: Tell = tell_nobody
    note: Callable[[str], None] = tell_nobody
    stop: Callable[[], bool] = lambda: False
    adapt: Callable[[], None] = tell_nobody
    phases: Phases = field(default_factory=Phases)

    @contextmanager
    def during(self, phase: str, text: str) -> Iterator[None]:
        """While open, the time counts for ``phase`` and ``text`` is what happens."""
        self.tell(text, None)
        with self.phases(phase):
            yield

    def check(self) -> None:
        """A safe point: raises Interrupted when the work is to end."""
        if self.stop():
            raise Interrupted("stopped at a safe point")
        self.adapt()


@contextmanager
def stop_signals() -> Iterator[Callable[[], int | None]]:
    """Ctrl-C and SIGTERM ask for a stop at the next safe point; a second one ends at once. Answers which signal
    came, if any.
    """
    received: list[int] = []

    def on_signal(number: int, frame: Any) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's signals stay the caller's
        before = {}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

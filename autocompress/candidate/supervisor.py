"""Whoever the computing side answers to: it is told what is done, counts the time, and may end it at a safe point."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from autocompress.candidate.phases import Phases
from autocompress.errors import Interrupted

Tell = Callable[[str, float | None], None]


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Supervisor:
    """tell: told what happens now, and which fraction of it is done. note: told what a user should read.

    stop: asked at safe points; once True, the work ends there.
    """

    tell: Tell = _nothing
    note: Callable[[str], None] = _nothing
    stop: Callable[[], bool] = lambda: False
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

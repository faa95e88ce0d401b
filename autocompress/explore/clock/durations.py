"""How long things take in this search, and so what the time that is left allows."""

from statistics import median

from autocompress.explore.clock.clock import Clock

OVERRUN = 0.05  # of the whole time, by which a hanging plug-in may delay the end
LATEST = 5  # families whose durations say what the next one takes
FIRST_OVERHEAD_S = 5.0  # before anything is known
LEAST_OVERHEAD_S = 2.0


class Durations:
    """``family`` is told what each new family took; the rest are answers."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._durations: list[float] = []
        self._overheads: list[float] = []

    def family(self, seconds: float, training_s: float) -> None:
        """A new family took so many seconds from its structure to its measured files, of which it trained some."""
        self._durations.append(seconds)
        self._overheads.append(seconds - training_s)

    def family_s(self) -> float:
        """Seconds a new family takes; 0 while none is known."""
        return median(self._durations[-LATEST:]) if self._durations else 0.0

    def overhead_s(self) -> float:
        """Seconds around a training: structure, export, variants, measuring, scoring."""
        if not self._overheads:
            return FIRST_OVERHEAD_S
        return max(LEAST_OVERHEAD_S, median(self._overheads[-LATEST:]))

    def within(self, limit_s: float) -> float:
        """A limit for one call that also keeps the promise of the whole: a hang costs at most a twentieth more."""
        return max(1.0, min(limit_s, self.clock.left() + OVERRUN * self.clock.limit_s))

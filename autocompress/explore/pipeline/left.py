"""What is left of the time that a candidate may take."""

from collections.abc import Callable

from autocompress.compute.waiting import waited_s


class Left:
    """Seconds that are left of a limit, which all operations of a candidate share; those that it waited for somebody
    else do not count.
    """

    def __init__(self, limit_s: float, now: Callable[[], float]) -> None:
        self._until, self._now, self._waited_s = now() + limit_s, now, waited_s()

    def __call__(self) -> float:
        return max(1.0, self._until - self._now() + waited_s() - self._waited_s)

    def add(self, seconds: float) -> None:
        self._until += seconds

"""How many threads to compute with: fewer than there are cores where others use some of them, and one fewer while files
are timed.

Threads that compute one layer together wait for the last of them. Beside a core that is busy one of two is held up for
milliseconds at a time, and both together are slower than one alone. Whether they are is timed, again and again.
"""

import time
from collections.abc import Callable

from autocompress.machine.cores import cores

EVERY_S = 8.0  # that an answer holds
ROUNDS, ROUND_S = 4, 0.01  # of each number of threads, in turn: 80 ms for two cores
WORTH = 1.1  # times as fast: so much faster have fewer threads to be than all that are allowed
LAYER = 8, 32, 8  # examples of each thread, channels and pixels of a small layer: a tenth of a ms


def use_threads(threads: int) -> None:
    """Compute with so many."""
    import torch

    torch.set_num_threads(threads)


def use_no_more_than_cores() -> None:
    """Where torch computes with as many threads as the host has processors and this process may use fewer of them."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), cores()))


def layer_speed(threads: int, most: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Small layers a second, of work enough for ``most`` threads, computed with so many. Draws nothing at random."""
    import torch
    from torch.nn.functional import conv2d

    torch.set_num_threads(threads)
    examples, channels, pixels = LAYER
    x, weight = torch.ones(examples * most, channels, pixels, pixels), torch.ones(channels, channels, 3, 3)
    count, began = 0, clock()
    with torch.no_grad():
        while (took := clock() - began) < ROUND_S:
            conv2d(x, weight, padding=1)
            count += 1
    return count / took


class Threads:
    """As many as are fastest. use: told how many. speed: of a number of threads, where so many are allowed; higher is
    faster. clock: seconds. timing: whether files are timed beside it now.
    """

    def __init__(
        self,
        use: Callable[[int], None] = use_threads,
        speed: Callable[[int, int], float] = layer_speed,
        clock: Callable[[], float] = time.monotonic,
        timing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._timing = timing
        self._use = use
        self._speed = speed
        self._clock = clock
        self._most = 1
        self._known: dict[int, tuple[float, int]] = {}  # of so many allowed: when they were timed, and the fastest

    def allow(self, most: int) -> None:
        """From now on compute with at most so many (0: all cores)."""
        self._most = most or cores()
        self.adapt()

    def adapt(self) -> None:
        """Leave a core to what is timed now; else time anew how many are fastest, where it is some seconds since that
        was done.
        """
        timed_at, fastest = self._known.get(self._most, (float("-inf"), self._most))
        if self._most > 1 and self._timing():
            self._use(min(fastest, self._most - 1))
            return
        if self._most > 1 and self._clock() - timed_at >= EVERY_S:
            fastest = self._fastest()
            self._known[self._most] = self._clock(), fastest
        self._use(fastest)

    def _fastest(self) -> int:
        most = self._most
        choices = sorted({most, most - 1, max(1, most // 2), 1}, reverse=True)
        speeds = dict.fromkeys(choices, 0.0)
        for _ in range(ROUNDS):
            for threads in choices:
                speeds[threads] += self._speed(threads, most)
        best = max(choices, key=speeds.__getitem__)
        return best if speeds[best] >= WORTH * speeds[most] else most

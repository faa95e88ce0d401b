"""Several callers of one model at once."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt


class Streams:
    """Callers of one opened model, each in a thread of its own. callers: each runs the model once; milliseconds.

    Python holds its lock between calls, which holds up callers of a model that takes little longer than that.
    """

    def __init__(self, callers: Sequence[Callable[[], float]]) -> None:
        self._callers = callers
        self._threads = ThreadPoolExecutor(len(callers), "stream")

    def __call__(self) -> float:
        """Milliseconds of a call beside those of the other callers, the mean."""
        return float(self.block(1).mean())

    def block(self, calls: int) -> npt.NDArray[np.float64]:
        """Milliseconds of so many calls of each caller, all of which begin together. Who is done with its own goes on
        until all are, so that every call that counts is one beside others.
        """
        begin, left = threading.Barrier(len(self._callers)), threading.Semaphore(0)
        done = threading.Event()

        def stream(call: Callable[[], float]) -> list[float]:
            try:
                begin.wait()
                times = [call() for _ in range(calls)]
                left.release()
                while not done.is_set():
                    call()
                return times
            except BaseException:
                done.set()  # nobody waits for a caller that failed
                left.release()
                begin.abort()
                raise

        running = [self._threads.submit(stream, call) for call in self._callers]
        for _ in self._callers:
            left.acquire()
        done.set()
        failed = [error for each in running if (error := each.exception()) is not None]
        for error in sorted(failed, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
            raise error
        return np.array([ms for each in running for ms in each.result()])

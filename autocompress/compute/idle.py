"""The workers that are free, for whoever waits for one."""

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable
from itertools import count
from typing import Generic, TypeVar

W = TypeVar("W")


class Idle(Generic[W]):
    """``get`` waits for a worker and takes it; ``put`` gives it back. in_turn: whether they are given in turn; the one
    that came back last comes first else, which has what it computed with at hand.

    What may wait comes after everything that may not, however long that has waited.
    """

    def __init__(self, free: Iterable[W], *, in_turn: bool) -> None:
        self._free = deque(free)
        self._in_turn = in_turn
        self._waiting: list[tuple[bool, int, asyncio.Future[W]]] = []
        self._number = count()

    async def get(self, *, may_wait: bool = False) -> W:
        if self._free:
            return self._free.popleft() if self._in_turn else self._free.pop()
        given: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (may_wait, next(self._number), given))
        try:
            return await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self.put(given.result())  # it was given to somebody who is gone
            raise

    def put(self, worker: W) -> None:
        while self._waiting:
            given = heapq.heappop(self._waiting)[2]
            if not given.done():
                given.set_result(worker)
                return
        self._free.append(worker)

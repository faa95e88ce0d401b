"""The workers that are free, for whoever waits for one."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

W = TypeVar("W")
PASSED_OVER = 3  # times, by others that ask later


class Idle(Generic[W]):
    """``get`` waits for a worker and takes it; ``put`` gives it back. in_turn: whether they are given in turn; the one
    that came back last comes first else, which has what it computed with at hand.

    What may wait comes after what may not, which has until its caller's next step to ask: who gives a worker back and
    asks for one again has it. It is passed over a few times and no more.
    """

    def __init__(self, free: Iterable[W], *, in_turn: bool) -> None:
        self._free = deque(free)
        self._in_turn = in_turn
        self._waiting: deque[asyncio.Future[W]] = deque()
        self._patient: deque[asyncio.Future[W]] = deque()
        self._passed_over = 0  # the first of the patient ones

    async def get(self, *, may_wait: bool = False) -> W:
        if self._free and not (may_wait and self._patient):
            if self._patient:
                self._passed_over += 1
            return self._free.popleft() if self._in_turn else self._free.pop()
        given: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        (self._patient if may_wait else self._waiting).append(given)
        try:
            return await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self.put(given.result())  # it was given to somebody who is gone
            raise

    def put(self, worker: W) -> None:
        self._free.append(worker)
        if self._passed_over < PASSED_OVER and self._given(self._waiting):
            self._passed_over += bool(self._patient)
            return
        if self._passed_over >= PASSED_OVER:
            self._serve_patient()
        elif self._patient:
            asyncio.get_running_loop().call_soon(self._serve_patient)

    def _serve_patient(self) -> None:
        """Who may wait has what is free by now; else who may not."""
        if self._free:
            self._passed_over = 0
            if not self._given(self._patient):
                self._given(self._waiting)

    def _given(self, waiting: "deque[asyncio.Future[W]]") -> bool:
        """Whether somebody was there to have the worker that is free."""
        while waiting:
            given = waiting.popleft()
            if not given.done():
                given.set_result(self._free.popleft() if self._in_turn else self._free.pop())
                return True
        return False
